"""SparseGPT: prune column by column, the remaining weights make up for each removal. arXiv:2301.00774."""

import torch
from torch import Tensor

from compression.hessian import SingularHessian
from compression.layer import LayerProblem, LayerSolution
from compression.methods.magnitude import magnitude
from compression.obs import NmPruner, Pruner, UnstructuredPruner, sweep
from compression.options import MagnitudeOptions, PruningOptions, SparseGptOptions
from compression.registry import register
from compression.weights import DenseWeights


@register(SparseGptOptions)
def sparsegpt(layer: LayerProblem, options: SparseGptOptions) -> LayerSolution:
    try:
        factor = layer.hessian.factor(options.damp)
    except SingularHessian as failure:
        return magnitude(layer, MagnitudeOptions(sparsity=options.sparsity, pattern=options.pattern)).after(failure.steps)
    W_RC = without_dead(layer)
    pruned = sweep(W_RC, factor.U_CC, pruner=pruner_for(options, factor.U_CC), rounder=None, block_size=options.block_size)
    return LayerSolution(DenseWeights(pruned.W_RC), options.method, factor.damp, factor.steps)


def without_dead(layer: LayerProblem) -> Tensor:
    """The weights with the columns of dead inputs zeroed: nothing they hold reaches the output on calibration data."""
    return torch.where(layer.hessian.dead_C, 0, layer.W_RC)


def pruner_for(options: PruningOptions, U_CC: Tensor) -> Pruner:
    return NmPruner(U_CC, *options.nm) if options.nm else UnstructuredPruner(U_CC, options.sparsity)
