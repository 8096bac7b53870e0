"""SpQR's grids: groups of few weights, whose scales and zero points are themselves rounded to a few bits. arXiv:2306.03078.

First level: value = scale * (code - zero), codes 0 .. 2^bits - 1, the zero point a fraction, one grid to each group of each
row. Second level: for one column group, the scales of a run of consecutive rows share such a grid again, and so do their
zero points; only its step and zero are kept in float16. A reader computes all of it in float16, rounding after each operation;
so does this file: float32 has more than twice the digits of float16, so that rounding to it first changes nothing.

Shapes: R = rows, S = weights in a group, T = runs of rows, Q = rows in a run, K = codes of a level. Groups are worked on
transposed (S, R), as the sweep keeps its weights.
"""

import torch
from torch import Tensor

FLAT = 128  # a group this many times farther from zero than it is wide gets zero into its range
MAX_ZERO = 1024  # of the second level: beyond, a float16 zero point is coarser than half a code, so the step is kept above
SMALLEST = 2.0**-24  # the smallest positive float16


def half(values: Tensor) -> Tensor:
    """Round to float16 and come back."""
    return values.to(torch.float16).to(values.dtype)


def dequantize(code: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """The value of a code as a float16 reader computes it; shapes broadcast, `scale` and `zero` hold float16 values."""
    return half(scale * half(code - zero))


def quantize(weight: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """The nearest code of each weight; shapes broadcast. Returns integers in the weight's dtype."""
    return (weight / scale).add_(zero).round_().clamp_(0, 2**bits - 1)


def fit(W_SR: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """First level: scale (R,) > 0 and zero (R,) that cover each row's weights, not rounded.

    The range need not hold zero, unless the weights are (almost) all alike: their grid ends at zero, so that the fraction
    stays small and a group of zeros stays zero. Such a group takes the least scale of the others, which it does not disturb.
    """
    low_R, high_R = W_SR.amin(0), W_SR.amax(0)
    scale_R, zero_R = _grid(low_R, high_R, bits)
    empty_R = (low_R == 0) & (high_R == 0)
    least = scale_R.masked_fill(empty_R, torch.inf).amin()
    return torch.where(empty_R & least.isfinite(), least, scale_R), zero_R


def _grid(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    is_flat = (high - low) * FLAT <= torch.maximum(-low, high)
    low = torch.where(is_flat, low.clamp(max=0), low)
    high = torch.where(is_flat, high.clamp(min=0), high)
    high = torch.where(high == low, 1.0, high)
    scale = (high - low) / (2**bits - 1)
    return scale, -low / scale


def usefulness(W_SR: Tensor, d_S: Tensor, bits: int) -> Tensor:
    """How much the group's error falls when one weight is left out of it: (S, R).

    E is the sum of ((w - q) / d)^2: that of all weights on the grid of all, less that of the others on the grid of the others.
    Only the smallest and the largest weight change the grid by leaving, so three grids do instead of S + 1; for the weights
    between, the difference is their own error.

    Args: d_S: diagonal of U for these columns.
    """
    own_SR = _errors(W_SR, d_S, W_SR.amin(0), W_SR.amax(0), bits)
    found_SR = own_SR.clone()
    if len(W_SR) == 1:
        return found_SR
    whole_R = own_SR.sum(0)
    (low_R, low2_R), low_at = W_SR.topk(2, dim=0, largest=False)
    (high_R, high2_R), high_at = W_SR.topk(2, dim=0)
    for at_R, low, high in ((low_at[0], low2_R, high_R), (high_at[0], low_R, high2_R)):
        others_SR = _errors(W_SR, d_S, low, high, bits).scatter_(0, at_R[None], 0)
        found_SR.scatter_(0, at_R[None], (whole_R - others_SR.sum(0))[None])
    return found_SR


def _errors(W_SR: Tensor, d_S: Tensor, low_R: Tensor, high_R: Tensor, bits: int) -> Tensor:
    scale_R, zero_R = _grid(low_R, high_R, bits)
    value_SR = scale_R * (quantize(W_SR, scale_R, zero_R, bits) - zero_R)
    return ((W_SR - value_SR) / d_S[:, None]).square_()


def without(W_SR: Tensor, left_out_SR: Tensor) -> Tensor:
    """The group with some weights replaced by the mean of the others of their row; a row of which none would stay is kept."""
    stay_SR = ~left_out_SR
    count_R = stay_SR.sum(0)
    mean_R = (W_SR * stay_SR).sum(0) / count_R.clamp(min=1)
    return torch.where(left_out_SR & (count_R > 0), mean_R, W_SR)


def fit_statistics(values_R: Tensor, bits: int, run: int, *, is_positive: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Second level: round one column group's scales (or zero points) to grids that `run` consecutive rows share.

    Every value takes the code whose float16 value is nearest; with `is_positive` only codes of positive values are taken.
    Returns: codes uint8 (R,), step (T,) and zero (T,), which hold float16 values. The last run may be short.
    """
    values_TQ = _runs(values_R, run)
    low_T, high_T = values_TQ.amin(1), values_TQ.amax(1)
    step_T = half(torch.maximum((high_T - low_T) / (2**bits - 1), torch.maximum(low_T.abs(), high_T.abs()) / MAX_ZERO))
    is_flat = (step_T == 0) | (high_T == low_T)  # one value does for all: that of code 1
    middle_T = half((low_T + high_T) / 2)
    zero_T = torch.where(is_flat, 0, half(-low_T / step_T))
    step_T = torch.where(is_flat, middle_T.clamp(min=SMALLEST) if is_positive else middle_T, step_T)
    table_TK = dequantize(torch.arange(2**bits, device=values_R.device), step_T[:, None], zero_T[:, None])
    if is_positive:
        table_TK = torch.where(table_TK > 0, table_TK, torch.inf)
    codes_TQ = (values_TQ[..., None] - table_TK[:, None]).abs_().argmin(-1)
    return codes_TQ.flatten()[: len(values_R)].to(torch.uint8), step_T, zero_T


def statistics(codes_RG: Tensor, step_TG: Tensor, zero_TG: Tensor, run: int) -> Tensor:
    """The scales or zero points (R, G) that second-level codes stand for, in float32."""
    rows = len(codes_RG)
    step_RG, zero_RG = (part.float().repeat_interleave(run, 0)[:rows] for part in (step_TG, zero_TG))
    return dequantize(codes_RG.float(), step_RG, zero_RG)


def _runs(values_R: Tensor, run: int) -> Tensor:
    """Cut into runs (T, Q); the last one is filled up with its last value, which changes no range."""
    missing = -len(values_R) % run
    return torch.cat([values_R, values_R[-1:].expand(missing)]).reshape(-1, run)
