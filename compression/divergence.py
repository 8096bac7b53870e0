"""How far many changed models are from one dense model on the same windows, in one number each.

Of a language model the mean over tokens of KL(dense || changed) in nats; of an encoder the mean over windows of the relative
error of its last hidden states. It tells less than `evaluation.py` and costs half of it: what the dense model
says is worked out once.

Shapes: W = windows, L = window, D = hidden size, n = tokens at once, V = vocabulary.
"""

import torch
from torch import Tensor

from compression.budgets import CHUNK_LOGITS
from compression.errors import NumericalError
from compression.models.activations import Stream
from compression.models.streamed import StreamedModel
from compression.output_error import window_error
from compression.products import factors_in

RULED_OUT = -1e30
REMEMBERED_BYTES = 2**30  # of the dense model's probabilities; more are worked out anew for each changed model
CHUNKS = 4  # of `CHUNK_LOGITS`: fewer calls of the head, each of which costs as much as some tokens


class Divergence:
    """The distance of changed models from the dense one.

    Args: dense: windows after the dense model's last block.
    """

    def __init__(self, model: StreamedModel, dense: Stream, compute_dtype: torch.dtype) -> None:
        self._model, self._dense, self._compute_dtype = model, dense, compute_dtype
        windows, self._length = dense.states_WLD.shape[:2]
        vocab_size = model.checkpoint.architecture.vocab_size
        self._chunk = max(1, CHUNKS * CHUNK_LOGITS // vocab_size)
        self._is_remembering = 4 * windows * self._length * vocab_size <= REMEMBERED_BYTES
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def of(self, changed: Stream) -> float:
        """Of the same windows after a changed model's last block.

        Raises: NumericalError: what it says is not finite.
        """
        windows = range(len(self._dense))
        if self._model.checkpoint.architecture.is_encoder:
            return sum(window_error(self._dense[w], changed[w]).relative_error for w in windows) / len(windows)
        with factors_in(self._compute_dtype):
            divergence = sum(self._of_window(w, changed[w]) for w in windows) / (len(windows) * self._length)
        if not torch.isfinite(torch.tensor(divergence)):
            raise NumericalError("head", "a changed model's predictions are not finite numbers; its weights are ruined")
        return divergence

    def _of_window(self, window: int, changed_1LD: Tensor) -> float:
        total = 0.0
        for first in range(0, self._length, self._chunk):
            probabilities_nV, negative_entropy_n = self._of_dense(window, first)
            logits_nV = self._logits(changed_1LD, first)
            # sum p (log p - log q) with log q = z - logsumexp(z): no table of the vocabulary's size is made on the way
            kl_n = negative_entropy_n + logits_nV.logsumexp(-1) - torch.linalg.vecdot(probabilities_nV, logits_nV)
            total += float(kl_n.sum(dtype=torch.float64))
        return total

    def _of_dense(self, window: int, first: int) -> tuple[Tensor, Tensor]:
        """The dense model's probabilities (n, V), and sum p log p (n,)."""
        if (window, first) in self._known:
            return self._known[window, first]
        logits_nV = self._logits(self._dense[window], first)
        probabilities_nV = logits_nV.softmax(-1)
        found = probabilities_nV, torch.linalg.vecdot(probabilities_nV, logits_nV) - logits_nV.logsumexp(-1)
        if self._is_remembering:
            self._known[window, first] = found
        return found

    def _logits(self, hidden_1LD: Tensor, first: int) -> Tensor:
        """(n, V); a token that is ruled out altogether has a finite logit, so that it adds nothing where both do so."""
        return self._model.logits(hidden_1LD[:, first : first + self._chunk])[0].float().clamp_(min=RULED_OUT)
