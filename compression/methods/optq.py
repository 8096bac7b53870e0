"""OPTQ (GPTQ): round column by column, each rounding error is pushed onto the columns not yet rounded. arXiv:2210.17323."""

from compression.layer import LayerProblem, LayerSolution
from compression.methods.rtn import fit_groups, groups, rtn
from compression.methods.sparsegpt import without_dead
from compression.obs import sweep
from compression.options import OptqOptions, QuantizationOptions, RtnOptions
from compression.registry import register
from compression.rounder import Rounder
from compression.weights import GridWeights


def by_rtn(layer: LayerProblem, options: QuantizationOptions) -> LayerSolution:
    return rtn(layer, RtnOptions(**options.model_dump(include=set(RtnOptions.model_fields) - {"method"})))


@register(OptqOptions, fallback=by_rtn, is_stackable=True)
def optq(layer: LayerProblem, options: OptqOptions) -> LayerSolution:
    """With act_order columns are visited by falling diag(H).

    Static groups are fitted first, on the original weights in storage order, so that the order leaves no trace in the
    result; dynamic groups are runs of the visiting order, and the solution says which column is in which.
    """
    factor = layer.hessian.factor(options.damp, by_activity=options.act_order)
    W_RC, group_C = without_dead(layer), groups(layer.W_RC, options)
    order_C = layer.hessian.activity_order() if options.act_order else None
    visited_RC = W_RC if order_C is None else W_RC[:, order_C]
    rounder = Rounder(
        W_RC.shape[0],
        group_C[order_C] if order_C is not None and options.static_groups else group_C,
        options.bits,
        symmetric=options.symmetric,
        search=options.grid == "mse",
        scale_dtype=layer.scale_dtype,
        fitted=fit_groups(W_RC, options, layer.scale_dtype) if options.static_groups else None,
        offset=options.offset,
    )
    sweep(visited_RC, factor.U_CC, pruner=None, rounder=rounder, block_size=options.block_size)
    codes_RC = rounder.codes_CR.T
    if order_C is not None:
        back_C = order_C.argsort()
        codes_RC = codes_RC[:, back_C]
        group_C = group_C if options.static_groups else group_C[back_C]
    weights = GridWeights(codes_RC.contiguous(), rounder.scale_RG, rounder.zero_RG, group_C, options.bits, options.offset)
    return LayerSolution(weights, options.method, factor.damp, factor.steps)
