"""Wanda: score |w_ij| * ||x_j||, compared within each output row, no update of what stays. arXiv:2306.11695, eq. 1."""

import torch

from compression.layer import LayerProblem, LayerSolution
from compression.masks import keep_largest_per_row, keep_n_of_m
from compression.methods.magnitude import magnitude
from compression.options import MagnitudeOptions, WandaOptions
from compression.registry import register
from compression.weights import DenseWeights


@register(WandaOptions)
def wanda(layer: LayerProblem, options: WandaOptions) -> LayerSolution:
    if layer.hessian.unfit or bool(layer.hessian.dead_C.all()):
        cousin = MagnitudeOptions(sparsity=options.sparsity, pattern=options.pattern)
        none = f"no calibration token reached this layer ({layer.hessian.tokens} tokens)"
        return magnitude(layer, cousin).after((layer.hessian.unfit or none,))
    score_RC = layer.W_RC.abs() * layer.hessian.H_CC.diagonal().sqrt()  # diag(H) is 2/n times the squared norms
    keep_RC = keep_n_of_m(score_RC, *options.nm) if options.nm else keep_largest_per_row(score_RC, options.sparsity)
    return LayerSolution(DenseWeights(torch.where(keep_RC, layer.W_RC, 0)), options.method)
