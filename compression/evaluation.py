"""Dense and compressed model on the same tokens: perplexity, KL divergence and top-1 agreement, with error bars.

Protocol: consecutive windows of L tokens; in each, the mean cross-entropy of the L - 1 next-token predictions; perplexity is
exp of the mean over windows. Tokens of one window depend on each other, so errors are computed over windows, and the
difference of the two models over the *paired* windows, which removes what both find hard.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.report import EvaluationResult, Perplexity, TextSet

CHUNK_LOGITS = 2**25  # logits held at once, per model: 128 MiB in float32

Head = Callable[[Tensor], Tensor]  # hidden states (1, L, D) -> logits (1, L, V)


@dataclass(frozen=True)
class WindowScore:
    """Means over the predicted tokens of one window, cross-entropies and KL in nats."""

    dense: float
    compressed: float
    kl: float
    agreement: float


def score_window(ids_L: Tensor, dense_1LD: Tensor, compressed_1LD: Tensor, head: Head, vocab_size: int) -> WindowScore:
    """Score one window from both models' last hidden states, a chunk of tokens at a time."""
    predicted = len(ids_L) - 1
    chunk = max(1, CHUNK_LOGITS // vocab_size)
    sums = torch.zeros(4, dtype=torch.float64)
    for first in range(0, predicted, chunk):
        last = min(first + chunk, predicted)
        targets_L = ids_L[first + 1 : last + 1]
        dense_LV = head(dense_1LD[:, first:last])[0].float().log_softmax(-1)
        compressed_LV = head(compressed_1LD[:, first:last])[0].float().log_softmax(-1)
        sums += _chunk_sums(dense_LV, compressed_LV, targets_L.to(dense_LV.device))
    dense, compressed, kl, agreement = (sums / predicted).tolist()
    return WindowScore(dense, compressed, kl, agreement)


def _chunk_sums(dense_LV: Tensor, compressed_LV: Tensor, targets_L: Tensor) -> Tensor:
    dense = -dense_LV.gather(1, targets_L[:, None]).sum(dtype=torch.float64)
    compressed = -compressed_LV.gather(1, targets_L[:, None]).sum(dtype=torch.float64)
    agreement = (dense_LV.argmax(-1) == compressed_LV.argmax(-1)).sum()
    kl = torch.sum(dense_LV.exp() * (dense_LV - compressed_LV), dtype=torch.float64)
    return torch.stack([dense, compressed, kl, agreement.double()]).cpu()


def summarise(text: TextSet, scores: list[WindowScore]) -> EvaluationResult:
    """Means and standard errors over windows."""
    dense, compressed = [s.dense for s in scores], [s.compressed for s in scores]
    log_ratio, log_ratio_error = _mean([c - d for c, d in zip(compressed, dense, strict=True)])
    kl, kl_error = _mean([s.kl for s in scores])
    agreement, agreement_error = _mean([s.agreement for s in scores])
    return EvaluationResult(
        text=text,
        dense=_perplexity(dense),
        compressed=_perplexity(compressed),
        ratio=_exp(log_ratio),
        log_ratio=log_ratio,
        log_ratio_standard_error=log_ratio_error,
        kl=kl,
        kl_standard_error=kl_error,
        top1_agreement=agreement,
        top1_agreement_standard_error=agreement_error,
    )


def _mean(values: list[float]) -> tuple[float, float | None]:
    """Mean and its standard error; the error of a single value is unknown."""
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, math.sqrt(variance / count)


def _perplexity(cross_entropies: list[float]) -> Perplexity:
    mean, error = _mean(cross_entropies)
    value = _exp(mean)
    return Perplexity(value=value, standard_error=None if error is None else value * error)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # a ruined model must give a huge figure, not an overflow
