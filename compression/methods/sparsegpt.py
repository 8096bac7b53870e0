"""SparseGPT: prune column by column, the remaining weights make up for each removal. arXiv:2301.00774."""

from torch import Tensor

from compression.layer import LayerProblem, LayerSolution
from compression.methods.magnitude import magnitude
from compression.obs import sweep
from compression.options import MagnitudeOptions, PruningOptions, SparseGptOptions
from compression.pruners import NmPruner, Pruner, UnstructuredPruner
from compression.registry import register
from compression.weights import DenseWeights


def by_magnitude(layer: LayerProblem, options: PruningOptions) -> LayerSolution:
    return magnitude(layer, MagnitudeOptions(sparsity=options.sparsity, pattern=options.pattern))


@register(SparseGptOptions, fallback=by_magnitude, is_stackable=True)
def sparsegpt(layer: LayerProblem, options: SparseGptOptions) -> LayerSolution:
    factor = layer.hessian.factor(options.damp)
    pruner = pruner_for(layer, options, factor.U_CC)
    pruned = sweep(without_dead(layer), factor.U_CC, pruner=pruner, rounder=None, block_size=options.block_size)
    return LayerSolution(DenseWeights(pruned.W_RC), options.method, factor.damp, factor.steps)


def without_dead(layer: LayerProblem) -> Tensor:
    """The weights with the columns of dead inputs zeroed: nothing they hold reaches the output on calibration data."""
    return layer.W_RC * (~layer.hessian.dead_C).to(layer.W_RC.dtype)  # a product, as it is vectorised on processors


def pruner_for(layer: LayerProblem, options: PruningOptions, U_CC: Tensor) -> Pruner:
    return NmPruner(U_CC, *options.nm) if options.nm else UnstructuredPruner(U_CC, options.sparsity, layer.parts)
