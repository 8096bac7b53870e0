"""Integer grids for weights: fitting, rounding, and back. Shapes: R = rows, G = groups in a row, S = weights in a group.

Two forms of grid, codes 0 .. top in both:
  zero_point: value = scale * (code - zero), zero an integer code; the range includes zero, so a pruned weight stays exactly
    zero. Source: OPTQ, arXiv:2210.17323, and its reference grid. Ternary is the symmetric grid of three codes.
  minimum: value = scale * code + minimum, both stored in float16 (GGUF's Q4_1); here zero = -minimum / scale is a fraction.
Rounding is half to even, as torch.round does.
"""

import torch
from torch import Tensor

from compression.options import Bits, Offset, top_code

MSE_STEPS = 80  # ranges tried, from the whole down to a fifth, in steps of a hundredth
MSE_NORM = 2.4
SMALLEST_SCALE = {torch.float16: 2.0**-24, torch.bfloat16: 2.0**-17}  # float16 holds a bfloat16 exactly from 2^-17 on


def fit(
    W_RGS: Tensor,
    bits: Bits,
    *,
    symmetric: bool,
    search: bool,
    scale_dtype: torch.dtype,
    offset: Offset = "zero_point",
) -> tuple[Tensor, Tensor]:
    """Fit one grid to each group of each row.

    Args:
        W_RGS: weights (R, G, S), float32 or better; not modified.
        search: shrink each range for the least sum |error|^2.4 instead of covering it.
        scale_dtype: the dtype that scales are stored in; they are rounded to it here, so that the file holds what the
            solver used.
    Returns: scale (R, G) > 0 and zero (R, G), within 0 .. top in the form zero_point, both in W's dtype.
    """
    low, high = W_RGS.amin(-1), W_RGS.amax(-1)
    if offset == "zero_point":
        low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    empty = high == low
    if offset == "zero_point":
        low, high = torch.where(empty, -1.0, low), torch.where(empty, 1.0, high)
    else:
        high = torch.where(empty, low + 1.0, high)  # one value everywhere: the minimum itself
    scale, zero = _grid(low, high, bits, symmetric, scale_dtype, offset)
    if search:
        scale, zero = _search(W_RGS, low, high, scale, zero, bits, symmetric, scale_dtype, offset)
    return scale, zero


def quantize(weight: Tensor, scale: Tensor, zero: Tensor, bits: Bits, offset: Offset = "zero_point") -> Tensor:
    """The nearest code of each weight; shapes broadcast. Returns integers in the weight's dtype."""
    steps = weight / scale
    code = steps.round_() + zero if offset == "zero_point" else (steps + zero).round_()
    return code.clamp_(0, top_code(bits))


def dequantize(code: Tensor, scale: Tensor, zero: Tensor, offset: Offset = "zero_point") -> Tensor:
    """The value of each code; shapes broadcast."""
    return scale * (code - zero) if offset == "zero_point" else scale * code + minimum(scale, zero)


def minimum(scale: Tensor, zero: Tensor) -> Tensor:
    """The value of code 0 in the form `minimum`, exactly as the file stores it.

    zero = -minimum / scale carries a relative error of 2^-24, far less than half a step of float16, so that rounding the
    product back gives the very float16 that zero was made of.
    """
    return (-zero * scale).to(torch.float16).to(scale.dtype)


def _grid(
    low: Tensor, high: Tensor, bits: Bits, symmetric: bool, scale_dtype: torch.dtype, offset: Offset
) -> tuple[Tensor, Tensor]:
    top = top_code(bits)
    scale = ((high - low) / top).to(scale_dtype).to(low.dtype)
    # a range too small for the stored dtype must not give scale 0
    scale = scale.clamp(min=SMALLEST_SCALE.get(scale_dtype, torch.finfo(scale_dtype).tiny))
    if offset == "minimum":
        return scale, -low.to(torch.float16).to(low.dtype) / scale
    if symmetric:
        return scale, torch.full_like(scale, (top + 1) // 2)
    return scale, (-low / scale).round_().clamp_(0, top)


def _search(
    W_RGS: Tensor,
    low: Tensor,
    high: Tensor,
    scale: Tensor,
    zero: Tensor,
    bits: Bits,
    symmetric: bool,
    scale_dtype: torch.dtype,
    offset: Offset,
) -> tuple[Tensor, Tensor]:
    best = torch.full_like(scale, torch.inf)
    for step in range(MSE_STEPS):
        shrink = 1 - step / 100
        tried_scale, tried_zero = _grid(shrink * low, shrink * high, bits, symmetric, scale_dtype, offset)
        grid = tried_scale[..., None], tried_zero[..., None]
        values = dequantize(quantize(W_RGS, *grid, bits, offset), *grid, offset)
        error = (values - W_RGS).abs_().pow_(MSE_NORM).sum(-1)
        is_better = error < best
        best = torch.where(is_better, error, best)
        scale, zero = torch.where(is_better, tried_scale, scale), torch.where(is_better, tried_zero, zero)
    return scale, zero
