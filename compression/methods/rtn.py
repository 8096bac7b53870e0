"""Round to nearest: the data-free cousin of every quantisation method."""

import torch
from torch import Tensor

from compression import grids
from compression.layer import LayerProblem, LayerSolution
from compression.options import QuantizationOptions, RtnOptions
from compression.registry import register
from compression.weights import GridWeights


@register(RtnOptions)
def rtn(layer: LayerProblem, options: RtnOptions) -> LayerSolution:
    scale_RG, zero_RG = fit_groups(layer.W_RC, options, layer.scale_dtype)
    group_C = groups(layer.W_RC, options)
    index = group_C.long()
    codes_RC = grids.quantize(layer.W_RC, scale_RG[:, index], zero_RG[:, index], options.bits, options.offset)
    weights = GridWeights(codes_RC.to(torch.uint8), scale_RG, zero_RG, group_C, options.bits, options.offset)
    return LayerSolution(weights, options.method)


def groups(W_RC: Tensor, options: QuantizationOptions) -> Tensor:
    """int32 (C,): the group of each column in storage order."""
    columns = W_RC.shape[1]
    size = options.group_size if isinstance(options.group_size, int) else columns
    return torch.arange(columns, dtype=torch.int32, device=W_RC.device) // size


def fit_groups(W_RC: Tensor, options: QuantizationOptions, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Grids of all groups, fitted on these weights: scale and zero point, both (R, G)."""
    count = int(groups(W_RC, options).max()) + 1
    W_RGS = W_RC.unflatten(1, (count, -1))
    return grids.fit(
        W_RGS,
        options.bits,
        symmetric=options.symmetric,
        search=options.grid == "mse",
        scale_dtype=scale_dtype,
        offset=options.offset,
    )
