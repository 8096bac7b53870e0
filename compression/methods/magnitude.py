"""Magnitude pruning: drop the smallest weights of the layer. The data-free cousin of every pruning method."""

import torch

from compression.layer import LayerProblem, LayerSolution
from compression.masks import keep_largest, keep_n_of_m, zeros_before
from compression.options import MagnitudeOptions
from compression.registry import register
from compression.weights import DenseWeights


@register(MagnitudeOptions)
def magnitude(layer: LayerProblem, options: MagnitudeOptions) -> LayerSolution:
    score_RC = layer.W_RC.abs()
    if options.nm:
        keep_RC = keep_n_of_m(score_RC, *options.nm)
    else:
        keep_RC = keep_largest(score_RC, zeros_before(options.sparsity, *layer.W_RC.shape))
    return LayerSolution(DenseWeights(torch.where(keep_RC, layer.W_RC, 0)), options.method)
