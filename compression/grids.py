"""Integer grids for weights: fitting, rounding, and back. Shapes: R = rows, G = groups in a row, S = weights in a group.

value = scale * (code - zero_point), codes 0 .. 2^bits - 1; the range always includes zero, so a pruned weight stays exactly
zero on any grid. Rounding is half to even, as torch.round does. Source: OPTQ, arXiv:2210.17323, and its reference grid.
"""

import torch
from torch import Tensor

MSE_STEPS = 80  # ranges tried, from the whole down to a fifth, in steps of a hundredth
MSE_NORM = 2.4


def fit(W_RGS: Tensor, bits: int, *, symmetric: bool, search: bool, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Fit one grid to each group of each row.

    Args:
        W_RGS: weights (R, G, S), float32 or better; not modified.
        search: shrink each range for the least sum |error|^2.4 instead of covering it.
        scale_dtype: the dtype that scales are stored in; they are rounded to it here, so that the file holds what the
            solver used.
    Returns: scale (R, G) > 0 and zero point (R, G) within 0 .. 2^bits - 1, both in W's dtype.
    """
    low, high = W_RGS.amin(-1).clamp(max=0), W_RGS.amax(-1).clamp(min=0)
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    empty = high == low
    low, high = torch.where(empty, -1.0, low), torch.where(empty, 1.0, high)
    scale, zero = _grid(low, high, bits, symmetric, scale_dtype)
    if search:
        scale, zero = _search(W_RGS, low, high, scale, zero, bits, symmetric, scale_dtype)
    return scale, zero


def quantize(weight: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """The nearest code of each weight; shapes broadcast. Returns integers in the weight's dtype."""
    return ((weight / scale).round_() + zero).clamp_(0, 2**bits - 1)


def dequantize(code: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """scale * (code - zero_point); shapes broadcast."""
    return scale * (code - zero)


def _grid(low: Tensor, high: Tensor, bits: int, symmetric: bool, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    top = 2**bits - 1
    scale = ((high - low) / top).to(scale_dtype).to(low.dtype)
    scale = scale.clamp(min=torch.finfo(scale_dtype).tiny)  # a range too small for the stored dtype must not give scale 0
    if symmetric:
        return scale, torch.full_like(scale, 2 ** (bits - 1))
    return scale, (-low / scale).round_().clamp_(0, top)


def _search(
    W_RGS: Tensor, low: Tensor, high: Tensor, scale: Tensor, zero: Tensor, bits: int, symmetric: bool, scale_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    best = torch.full_like(scale, torch.inf)
    for step in range(MSE_STEPS):
        shrink = 1 - step / 100
        tried_scale, tried_zero = _grid(shrink * low, shrink * high, bits, symmetric, scale_dtype)
        values = dequantize(
            quantize(W_RGS, tried_scale[..., None], tried_zero[..., None], bits), tried_scale[..., None], tried_zero[..., None]
        )
        error = (values - W_RGS).abs_().pow_(MSE_NORM).sum(-1)
        is_better = error < best
        best = torch.where(is_better, error, best)
        scale, zero = torch.where(is_better, tried_scale, scale), torch.where(is_better, tried_zero, zero)
    return scale, zero
