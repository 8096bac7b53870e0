"""Compress one module by itself, on inputs that the caller has: for models without a family, such as convolutional nets.

A convolution is the linear layer over its unfolded input; each group of a grouped one is a matrix of its own.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from compression import methods  # noqa: F401  registers the solvers
from compression.block import solve_matrix
from compression.families.base import Matrix
from compression.hessian import Accumulator
from compression.matrix_view import input_rows, module_matrices
from compression.options import LayerOptions
from compression.plan import PlannedLayer, settle
from compression.report import LayerResult


@torch.no_grad()
def compress_module(
    module: nn.Module, inputs: Iterable[Tensor], options: LayerOptions, name: str = "module"
) -> tuple[LayerResult, ...]:
    """Solve the weight of a Linear, Conv1D or Conv2d and put the answer in its place, in the weight's own dtype.

    Args:
        inputs: calibration batches, as the module would be called with.
        name: for results and errors.
    Returns: one result, but one for each group of a grouped convolution.
    Raises: UnsupportedModel: another kind of module. InvalidOptions: groups or n:m that do not fit the width.
        NumericalError: inputs or solution are not finite; the module is then as it was.
    """
    matrices = module_matrices(module)
    names = [name] if len(matrices) == 1 else [f"{name}[group {g}]" for g in range(len(matrices))]
    layers, _ = settle(
        [
            PlannedLayer(label, 0, Matrix(label, (W_RC.shape[0], W_RC.shape[1]), reads=label, stage=0), options)
            for label, W_RC in zip(names, matrices, strict=True)
        ]
    )
    accumulators = [Accumulator(W_RC.shape[1], W_RC.device) for W_RC in matrices]
    for X in inputs:
        for accumulator, X_NC in zip(accumulators, input_rows(module, X), strict=True):
            accumulator.add(X_NC)
    solved = [
        solve_matrix(W_RC.float(), layer, accumulator.finish(layer.name), W_RC.dtype)
        for W_RC, layer, accumulator in zip(matrices, layers, accumulators, strict=True)
    ]
    for W_RC, (solution, _) in zip(matrices, solved, strict=True):
        W_RC.copy_(solution.weights.to_dense())
    return tuple(result for _, result in solved)
