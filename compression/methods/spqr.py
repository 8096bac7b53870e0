"""SpQR: small groups with two-level statistics, and the few weights that round badly kept in float16. arXiv:2306.03078."""

import torch
from torch import Tensor

from compression.layer import LayerProblem, LayerSolution
from compression.methods.sparsegpt import without_dead
from compression.obs import sweep
from compression.options import SpqrOptions
from compression.registry import register
from compression.spqr_rounder import SpqrRounder
from compression.spqr_weights import SpqrWeights

DATA_FREE = "spqr without calibration"


def _data_free(layer: LayerProblem, options: SpqrOptions) -> LayerSolution:
    """The same grids and outliers with H = 1: round to nearest, in a form that the same file can hold."""
    eye_CC = torch.eye(layer.W_RC.shape[1], device=layer.W_RC.device)
    return LayerSolution(_solve(layer.W_RC, eye_CC, None, options), DATA_FREE)


@register(SpqrOptions, fallback=_data_free)
def spqr(layer: LayerProblem, options: SpqrOptions) -> LayerSolution:
    """With act_order groups are runs of columns by falling diag(H), and the solution keeps the order.

    Not stackable: the threshold of outliers and the runs of rows that share second-level grids are those of one matrix.
    """
    factor = layer.hessian.factor(options.damp, by_activity=options.act_order)
    order_C = layer.hessian.activity_order() if options.act_order else None
    return LayerSolution(_solve(without_dead(layer), factor.U_CC, order_C, options), options.method, factor.damp, factor.steps)


def _solve(W_RC: Tensor, U_CC: Tensor, order_C: Tensor | None, options: SpqrOptions) -> SpqrWeights:
    visited_RC = W_RC if order_C is None else W_RC[:, order_C]
    rounder = SpqrRounder(visited_RC, U_CC, options)
    sweep(visited_RC, U_CC, pruner=None, rounder=rounder, block_size=options.block_size)
    return rounder.weights(order_C)
