"""Scores of many windows -> the figures of the report, with error bars.

Tokens of one window depend on each other, so errors are computed over windows, and the difference of the two models over
the *paired* windows, which removes what both find hard.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from compression.evaluation import WORST_IN_WINDOW, WindowScore
from compression.report import EvaluationResult, Perplexity, TextSet, WorstToken

CONTEXT_TOKENS = 24
TAIL = 0.99


def summarise(text: TextSet, scores: Sequence[WindowScore], worst: tuple[WorstToken, ...] = ()) -> EvaluationResult:
    """Means and standard errors over windows, and the tail over tokens."""
    dense, compressed = [s.dense for s in scores], [s.compressed for s in scores]
    log_ratio, log_ratio_error = mean_and_error([c - d for c, d in zip(compressed, dense, strict=True)])
    kl, kl_error = mean_and_error([s.kl for s in scores])
    agreement, agreement_error = mean_and_error([s.agreement for s in scores])
    return EvaluationResult(
        text=text,
        dense=perplexity(dense),
        compressed=perplexity(compressed),
        ratio=_exp(log_ratio),
        log_ratio=log_ratio,
        log_ratio_standard_error=log_ratio_error,
        kl=kl,
        kl_standard_error=kl_error,
        kl_p99=quantile(torch.cat([s.kl_N for s in scores]), TAIL),
        top1_agreement=agreement,
        top1_agreement_standard_error=agreement_error,
        worst_tokens=worst,
    )


def worst_tokens(
    scores: Sequence[WindowScore], ids_WL: Tensor, tokenizer: PreTrainedTokenizerBase, count: int = WORST_IN_WINDOW
) -> tuple[WorstToken, ...]:
    """The tokens of a text whose loss rose most, decoded with some of what stands before them.

    Args: count: at most as many as are kept of each window, so that none of the worst is missed.
    """
    found = [(window, token) for window, score in enumerate(scores) for token in score.worst]
    found.sort(key=lambda entry: entry[1].dense - entry[1].compressed)  # stable: earlier windows first among equals
    worst = []
    for window, token in found[:count]:
        ids = ids_WL[window].tolist()
        worst.append(
            WorstToken(
                window=window,
                position=token.position,
                context=_decode(tokenizer, ids[max(0, token.position - CONTEXT_TOKENS) : token.position]),
                token=_decode(tokenizer, [ids[token.position]]),
                dense_loss=token.dense,
                compressed_loss=token.compressed,
                kl=token.kl,
                dense_choice=_decode(tokenizer, [token.dense_choice]),
                compressed_choice=_decode(tokenizer, [token.compressed_choice]),
            )
        )
    return tuple(worst)


def perplexity(cross_entropies: Sequence[float]) -> Perplexity:
    """exp of the mean over windows, its error by the delta method."""
    mean, error = mean_and_error(cross_entropies)
    value = _exp(mean)
    return Perplexity(value=value, standard_error=None if error is None else value * error)


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and its standard error; the error of a single value is unknown."""
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, math.sqrt(variance / count)


def quantile(values_N: Tensor, share: float) -> float:
    """The least of the values that at least `share` of them do not exceed (nearest rank); 0 of none."""
    if not len(values_N):
        return 0.0
    return float(values_N.kthvalue(max(1, math.ceil(share * len(values_N)))).values)


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # a ruined model must give a huge figure, not an overflow
