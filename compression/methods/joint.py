"""Joint sparsification and quantisation in one sweep: prune, then round what stays. arXiv:2301.00774, section 3.5.

Zero is on every grid, so a pruned weight is the code of the zero point and stays exactly zero.
"""

from dataclasses import replace

import torch

from compression.layer import LayerProblem, LayerSolution
from compression.methods.optq import by_rtn
from compression.methods.rtn import groups
from compression.methods.sparsegpt import by_magnitude, pruner_for, without_dead
from compression.obs import sweep
from compression.options import JointOptions
from compression.registry import register
from compression.rounder import Rounder
from compression.weights import GridWeights


def _data_free(layer: LayerProblem, options: JointOptions) -> LayerSolution:
    """Magnitude pruning, then round to nearest: zero is on the grid, so the mask survives."""
    pruned_RC = torch.as_tensor(by_magnitude(layer, options).weights.to_dense())
    return replace(by_rtn(replace(layer, W_RC=pruned_RC), options), method="magnitude + rtn")


@register(JointOptions, fallback=_data_free, is_stackable=True)
def joint(layer: LayerProblem, options: JointOptions) -> LayerSolution:
    factor = layer.hessian.factor(options.damp)
    W_RC, group_C = without_dead(layer), groups(layer.W_RC, options)
    rounder = Rounder(
        W_RC.shape[0],
        group_C,
        options.bits,
        symmetric=options.symmetric,
        search=options.grid == "mse",
        scale_dtype=layer.scale_dtype,
        fitted=None,
    )
    pruner = pruner_for(layer, options, factor.U_CC)
    sweep(W_RC, factor.U_CC, pruner=pruner, rounder=rounder, block_size=options.block_size)
    codes_RC = rounder.codes_CR.T.contiguous()
    weights = GridWeights(codes_RC, rounder.scale_RG, rounder.zero_RG, group_C, options.bits)
    return LayerSolution(weights, options.method, factor.damp, factor.steps)
