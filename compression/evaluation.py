"""Two models on the tokens of one window: cross-entropy, KL divergence, top-1 agreement, and the tokens that suffered most.

Protocol: consecutive windows of L tokens; in each, the L - 1 next-token predictions. Logits are asked for in chunks, so that
no more than CHUNK_LOGITS of them exist at once, whatever the vocabulary. Shapes: L = window, N = L - 1 predictions,
V = vocabulary, n = predictions of one chunk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from compression.budgets import CHUNK_LOGITS
from compression.errors import NumericalError

WORST_IN_WINDOW = 5

Head = Callable[[Tensor], Tensor]  # hidden states (1, n, D) -> logits (1, n, V)
Logits = Callable[[int, int], Tensor]  # first, last -> logits (n, V) that predict the tokens first + 1 to last


@dataclass(frozen=True)
class TokenChange:
    """One token under both models.

    Args:
        position: in the window, from 0.
        dense, compressed: its loss in nats.
        dense_choice, compressed_choice: ids of the tokens ranked first.
    """

    position: int
    dense: float
    compressed: float
    kl: float
    dense_choice: int
    compressed_choice: int


@dataclass(frozen=True)
class WindowScore:
    """Means over the predicted tokens of one window, cross-entropies and KL in nats.

    Args:
        kl_N: KL of each prediction, float32 on the host: 4 bytes a token are kept until the text is summed up.
        worst: the tokens whose loss rose most, the worst first.
    """

    dense: float
    compressed: float
    kl: float
    agreement: float
    kl_N: Tensor = field(default_factory=lambda: torch.empty(0), compare=False, repr=False)
    worst: tuple[TokenChange, ...] = ()


def score_window(
    ids_L: Tensor,
    dense_1LD: Tensor,
    compressed_1LD: Tensor,
    head: Head,
    vocab_size: int,
    *,
    compressed_head: Head | None = None,
) -> WindowScore:
    """Score one window from both models' last hidden states.

    Args: compressed_head: of the compressed model, where it is not the dense one's.
    """
    other_head = compressed_head or head
    return compare_window(
        ids_L,
        lambda first, last: head(dense_1LD[:, first:last])[0],
        lambda first, last: other_head(compressed_1LD[:, first:last])[0],
        vocab_size,
    )


def compare_window(ids_L: Tensor, dense: Logits, compressed: Logits, vocab_size: int) -> WindowScore:
    """Score one window from both models' logits.

    Raises: NumericalError: a model's predictions are not finite.
    """
    chunks = []
    for first, last, targets_n in _chunks(ids_L, vocab_size):
        dense_nV = dense(first, last).float().log_softmax(-1)
        compressed_nV = compressed(first, last).float().log_softmax(-1)
        chunks.append(_compare(dense_nV, compressed_nV, targets_n.to(dense_nV.device)))
    losses_N, compressed_N, kl_N, choices_N, compressed_choices_N = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    for name, values_N in (("dense", losses_N), ("compressed", compressed_N), ("compressed", kl_N)):
        _require_finite(name, values_N)
    increase_N = compressed_N - losses_N
    worst = increase_N.argsort(descending=True, stable=True)[:WORST_IN_WINDOW]
    return WindowScore(
        dense=_mean(losses_N),
        compressed=_mean(compressed_N),
        kl=_mean(kl_N),
        agreement=_mean(choices_N == compressed_choices_N),
        kl_N=kl_N.float(),
        worst=tuple(
            TokenChange(
                position=n + 1,
                dense=float(losses_N[n]),
                compressed=float(compressed_N[n]),
                kl=float(kl_N[n]),
                dense_choice=int(choices_N[n]),
                compressed_choice=int(compressed_choices_N[n]),
            )
            for n in worst.tolist()
        ),
    )


def loss_of_window(ids_L: Tensor, logits: Logits, vocab_size: int) -> float:
    """Mean cross-entropy of one model on one window, in nats. Raises: NumericalError."""
    losses = [
        _losses(logits(first, last).float().log_softmax(-1), targets_n)
        for first, last, targets_n in _chunks(ids_L, vocab_size)
    ]
    losses_N = torch.cat(losses)
    _require_finite("evaluated", losses_N)
    return _mean(losses_N)


def _chunks(ids_L: Tensor, vocab_size: int) -> Iterator[tuple[int, int, Tensor]]:
    """(first, last, the tokens to predict) of each chunk."""
    predicted = len(ids_L) - 1
    chunk = max(1, CHUNK_LOGITS // vocab_size)
    for first in range(0, predicted, chunk):
        last = min(first + chunk, predicted)
        yield first, last, ids_L[first + 1 : last + 1]


def _compare(dense_nV: Tensor, compressed_nV: Tensor, targets_n: Tensor) -> tuple[Tensor, ...]:
    """Losses of both, KL, and what both rank first; each (n,) on the host."""
    kl_n = torch.sum(dense_nV.exp() * (dense_nV - compressed_nV), dim=-1)  # pairwise: within 1e-8 of a sum in float64
    if not torch.isfinite(kl_n).all():  # a token that both rule out altogether adds nothing: 0 * (-inf + inf)
        terms_nV = torch.where(dense_nV.isneginf(), 0.0, dense_nV.exp() * (dense_nV - compressed_nV))
        kl_n = torch.sum(terms_nV, dim=-1)
    choices = (dense_nV.argmax(-1).cpu(), compressed_nV.argmax(-1).cpu())
    return (_losses(dense_nV, targets_n), _losses(compressed_nV, targets_n), kl_n.double().cpu(), *choices)


def _losses(log_probabilities_nV: Tensor, targets_n: Tensor) -> Tensor:
    targets_n = targets_n.to(log_probabilities_nV.device)
    return -log_probabilities_nV.gather(1, targets_n[:, None])[:, 0].double().cpu()


def _mean(values_N: Tensor) -> float:
    return float(values_N.double().mean())


def _require_finite(model: str, values_N: Tensor) -> None:
    if not torch.isfinite(values_N).all():
        raise NumericalError("head", f"the {model} model's predictions are not finite numbers; its weights are ruined")
