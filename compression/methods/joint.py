"""Joint sparsification and quantisation in one sweep: prune, then round what stays. arXiv:2301.00774, section 3.5.

Zero is on every grid, so a pruned weight is the code of the zero point and stays exactly zero.
"""

from dataclasses import replace

import torch

from compression.hessian import SingularHessian
from compression.layer import LayerProblem, LayerSolution
from compression.methods.magnitude import magnitude
from compression.methods.rtn import groups, rtn
from compression.methods.sparsegpt import pruner_for, without_dead
from compression.obs import Rounder, sweep
from compression.options import JointOptions, MagnitudeOptions, RtnOptions
from compression.registry import register
from compression.weights import GridWeights


@register(JointOptions)
def joint(layer: LayerProblem, options: JointOptions) -> LayerSolution:
    try:
        factor = layer.hessian.factor(options.damp)
    except SingularHessian as failure:
        return _data_free(layer, options).after(failure.steps)
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
    pruner = pruner_for(options, factor.U_CC)
    sweep(W_RC, factor.U_CC, pruner=pruner, rounder=rounder, block_size=options.block_size)
    codes_RC = rounder.codes_CR.T.contiguous()
    weights = GridWeights(codes_RC, rounder.scale_RG, rounder.zero_RG, group_C, options.bits)
    return LayerSolution(weights, options.method, factor.damp, factor.steps)


def _data_free(layer: LayerProblem, options: JointOptions) -> LayerSolution:
    """Magnitude pruning, then round to nearest: zero is on the grid, so the mask survives."""
    pruned = magnitude(layer, MagnitudeOptions(sparsity=options.sparsity, pattern=options.pattern))
    shared = options.model_dump(include=set(RtnOptions.model_fields) - {"method"})
    problem = LayerProblem(layer.name, torch.as_tensor(pruned.weights.to_dense()), layer.hessian, layer.scale_dtype)
    return replace(rtn(problem, RtnOptions(**shared)), method="magnitude + rtn")
