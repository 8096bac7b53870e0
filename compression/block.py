"""One block of the pass: collect the Hessians of its inputs, solve its matrices, put the answers in."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from compression.errors import NumericalError, UnsupportedModel
from compression.hessian import Accumulator, Hessian
from compression.layer import LayerProblem, LayerSolution, relative_error
from compression.plan import PlannedLayer
from compression.registry import solve
from compression.report import LayerResult
from compression.weights import DenseWeights, GridWeights, Weights


def check_block(block: nn.Module, layers: Sequence[PlannedLayer]) -> None:
    """Every matrix of the block must be one that the family declares, in the declared shape: nothing is left out unseen.

    Raises: UnsupportedModel: naming the parameter.
    """
    declared = {layer.matrix.name: layer.matrix for layer in layers}
    for name, parameter in block.named_parameters():
        if parameter.ndim < 2:
            continue
        matrix = declared.pop(name.removesuffix(".weight"), None)
        if matrix is None:
            raise UnsupportedModel(f"the block holds a matrix {name} that its family does not declare")
        shape = tuple(parameter.shape)
        if (shape[::-1] if matrix.is_transposed else shape) != matrix.shape:
            raise UnsupportedModel(f"{name} has shape {shape}, its config says {matrix.shape}")
    if declared:
        raise UnsupportedModel(f"the block has no matrix {next(iter(declared))}, which its family declares")


def stages(layers: Sequence[PlannedLayer], is_sequential: bool) -> Iterator[list[PlannedLayer]]:
    """The groups of targeted layers that are calibrated together: all at once, or one stage after the other."""
    targeted = [layer for layer in layers if layer.options is not None]
    keys = sorted({layer.matrix.stage for layer in targeted}) if is_sequential else [None]
    for key in keys:
        group = [layer for layer in targeted if key is None or layer.matrix.stage == key]
        if group:
            yield group


@contextmanager
def listening(block: nn.Module, layers: Iterable[PlannedLayer], device: torch.device) -> Iterator[dict[str, Accumulator]]:
    """While inside, every forward of the block adds to one accumulator for each distinct input of these layers."""
    accumulators: dict[str, Accumulator] = {}
    handles = []
    for layer in layers:
        matrix = layer.matrix
        if matrix.reads not in accumulators:
            accumulators[matrix.reads] = Accumulator(matrix.shape[1], device)
            handles.append(block.get_submodule(matrix.name).register_forward_pre_hook(_adds_to(accumulators[matrix.reads])))
    try:
        yield accumulators
    finally:
        for handle in handles:
            handle.remove()


def _adds_to(accumulator: Accumulator) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
        accumulator.add(args[0])

    return hook


def solve_layer(
    block: nn.Module, layer: PlannedLayer, hessian: Hessian, storage_dtype: torch.dtype
) -> tuple[LayerSolution, LayerResult]:
    """Solve one matrix, and account for it as the output file will hold it.

    Raises: NumericalError: when the solution is not finite in the storage dtype.
    """
    assert layer.options is not None
    begin = time.perf_counter()
    W_RC = matrix_weight(block, layer).float()
    solution = solve(LayerProblem(layer.name, W_RC, hessian, scale_dtype(storage_dtype)), layer.options)
    stored_RC = solution.weights.to_dense().to(storage_dtype)
    if not torch.isfinite(stored_RC).all():
        raise NumericalError(layer.name, f"{solution.method} gave weights that {storage_dtype} cannot hold")
    if isinstance(solution.weights, DenseWeights):
        solution = replace(solution, weights=DenseWeights(stored_RC))
    grid = solution.weights if isinstance(solution.weights, GridWeights) else None
    result = LayerResult(
        name=layer.name,
        block=layer.block,
        shape=layer.matrix.shape,
        method=solution.method,
        relative_error=relative_error(W_RC, stored_RC.float(), hessian),
        sparsity=float((stored_RC == 0).sum()) / stored_RC.numel(),
        bits=grid.bits if grid else None,
        group_size=grid.group_size if grid and grid.group_size < W_RC.shape[1] else None,
        bits_per_weight=solution.weights.stored_bits() / stored_RC.numel(),
        damp=solution.damp,
        tokens=hessian.tokens,
        fallbacks=solution.fallbacks,
        seconds=time.perf_counter() - begin,
    )
    return solution, result


def scale_dtype(storage_dtype: torch.dtype) -> torch.dtype:
    """The dtype that scales are rounded to: one that float16 and the model's dtype both hold, so that every format stores the
    very scales that the solver used, and another format can be written later without rounding again."""
    return torch.bfloat16 if storage_dtype == torch.bfloat16 else torch.float16


def matrix_weight(block: nn.Module, layer: PlannedLayer) -> Tensor:
    """A matrix's present weights as (out_features, in_features)."""
    weight = block.get_submodule(layer.matrix.name).get_parameter("weight").detach()
    return weight.T if layer.matrix.is_transposed else weight


def stored_form(weights: Weights, layer: PlannedLayer, storage_dtype: torch.dtype) -> Tensor:
    """The tensor of the output file: storage dtype and storage order. Evaluation and export both use this one."""
    dense_RC = weights.to_dense().to(storage_dtype)
    return (dense_RC.T if layer.matrix.is_transposed else dense_RC).contiguous()


def install(block: nn.Module, layer: PlannedLayer, weights: Weights, storage_dtype: torch.dtype) -> None:
    """Put compressed weights into the block, after the round trip through the storage dtype."""
    module = block.get_submodule(layer.matrix.name)
    present = module.get_parameter("weight")
    tensor = stored_form(weights, layer, storage_dtype).to(present.device, present.dtype)
    module._parameters["weight"] = nn.Parameter(tensor, requires_grad=False)
