"""OBC: exact greedy pruning (ExactOBS), exact greedy rounding (OBQ), or the one after the other. arXiv:2208.11580."""

import torch
from torch import Tensor

from compression.exact.obq import PlaceGrids, round_greedily
from compression.exact.pruning import exact_mask, exact_nm_mask
from compression.exact.refit import refit
from compression.hessian import SingularHessian
from compression.layer import LayerProblem, LayerSolution
from compression.masks import keep_largest
from compression.methods.magnitude import magnitude
from compression.methods.rtn import fit_groups, groups, rtn
from compression.methods.sparsegpt import without_dead
from compression.options import MagnitudeOptions, ObcOptions, QuantizationOptions, RtnOptions
from compression.registry import register
from compression.weights import DenseWeights, GridWeights, Weights


def _data_free(layer: LayerProblem, options: ObcOptions) -> LayerSolution:
    """Magnitude pruning, rounding to nearest, or both: zero is on the grid, so the mask survives."""
    pruned = None
    if options.sparsity is not None:
        pruned = _by_magnitude(layer, options, options.sparsity)
        layer = LayerProblem(layer.name, pruned.weights.to_dense(), layer.hessian, layer.scale_dtype)
    if options.quantization is None:
        assert pruned is not None
        return pruned
    shared = options.quantization.model_dump(include=set(RtnOptions.model_fields) - {"method"})
    rounded = rtn(layer, RtnOptions(**shared))
    method = rounded.method if pruned is None else f"{pruned.method} + {rounded.method}"
    return LayerSolution(rounded.weights, method)


def _by_magnitude(layer: LayerProblem, options: ObcOptions, sparsity: float) -> LayerSolution:
    if options.nm or options.tile == 1:
        return magnitude(layer, MagnitudeOptions(sparsity=sparsity, pattern=options.pattern))
    size_RG = layer.W_RC.square().unflatten(1, (-1, options.tile)).sum(-1)
    keep_RG = keep_largest(size_RG, round(sparsity * size_RG.numel()))
    keep_RC = keep_RG.repeat_interleave(options.tile, 1)
    return LayerSolution(DenseWeights(torch.where(keep_RC, layer.W_RC, 0)), "magnitude")


@register(ObcOptions, fallback=_data_free)
def obc(layer: LayerProblem, options: ObcOptions) -> LayerSolution:
    factor = layer.hessian.factor(options.damp)
    try:
        weights = _solve(layer, options, layer.hessian.damped(factor.damp, torch.float64))
    except torch.linalg.LinAlgError as failure:  # type: ignore[attr-defined]
        failed = f"not positive definite with damp {factor.damp:g} in float64"
        raise SingularHessian((*factor.steps, failed)) from failure
    return LayerSolution(weights, options.method, factor.damp, factor.steps)


def _solve(layer: LayerProblem, options: ObcOptions, H_CC: Tensor) -> Weights:
    """All of it in float64. Raises: LinAlgError: round-off has made an inverse indefinite."""
    B_CC = torch.cholesky_inverse(torch.linalg.cholesky(H_CC))
    W_RC = without_dead(layer).double()
    keep_RC = _mask(W_RC, B_CC, options)
    if keep_RC is not None:
        W_RC = refit(W_RC, H_CC, keep_RC)
    if options.quantization is None:
        return DenseWeights(W_RC.float())
    return _rounded(W_RC, H_CC, B_CC, keep_RC, options.quantization, layer.scale_dtype)


def _mask(W_RC: Tensor, B_CC: Tensor, options: ObcOptions) -> Tensor | None:
    if options.sparsity is None:
        return None
    if options.nm:
        return exact_nm_mask(W_RC, B_CC, *options.nm)
    return exact_mask(W_RC, B_CC, options.sparsity, options.tile)


def _rounded(
    W_RC: Tensor,
    H_CC: Tensor,
    B_CC: Tensor,
    keep_RC: Tensor | None,
    quantization: QuantizationOptions,
    scale_dtype: torch.dtype,
) -> GridWeights:
    """Grids are fitted to the weights as they come out of the pruning, before any is rounded."""
    scale_RG, zero_RG = fit_groups(W_RC.float(), quantization, scale_dtype)
    group_C = groups(W_RC, quantization)
    scale_RC, zero_RC = (all_RG[:, group_C.long()].double() for all_RG in (scale_RG, zero_RG))
    places = PlaceGrids(scale_RC, zero_RC, quantization.bits, quantization.offset)
    codes_RC = round_greedily(W_RC, H_CC, B_CC, keep_RC, places).to(torch.uint8)
    return GridWeights(codes_RC, scale_RG, zero_RG, group_C, quantization.bits, quantization.offset)
