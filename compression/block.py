"""One block of the pass: check what it holds, solve its matrices, put the answers in."""

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from compression.budgets import ABREAST_SQUARE
from compression.drift import target
from compression.errors import NumericalError, UnsupportedModel
from compression.families.base import Matrix
from compression.finite import all_finite
from compression.hessian import Hessian
from compression.layer import LayerProblem, LayerSolution, relative_error
from compression.matrix_view import matrix_view
from compression.plan import PlannedLayer
from compression.registry import solve, solve_together
from compression.report import LayerResult
from compression.spqr_weights import SpqrWeights
from compression.weights import DenseWeights, GridWeights, Weights


def check_block(block: nn.Module, layers: Sequence[PlannedLayer]) -> None:
    """Every matrix of the block must be one that the family declares, in the declared shape: nothing is left out unseen.

    A fused parameter must be tiled by its declared matrices without a gap.

    Raises: UnsupportedModel: naming the parameter.
    """
    declared: dict[str, list[Matrix]] = {}
    for layer in layers:
        declared.setdefault(layer.matrix.parameter, []).append(layer.matrix)
    for name, parameter in block.named_parameters():
        if parameter.ndim < 2:
            continue
        matrices = declared.pop(name, None)
        if matrices is None:
            raise UnsupportedModel(f"the block holds a matrix {name} that its family does not declare")
        _check_tiling(name, tuple(parameter.shape), matrices)
    if declared:
        raise UnsupportedModel(f"the block has no matrix {next(iter(declared))}, which its family declares")


def _check_tiling(name: str, shape: tuple[int, ...], matrices: list[Matrix]) -> None:
    if len(shape) == 2 and len(matrices) == 1:
        (matrix,) = matrices
        if (shape[::-1] if matrix.is_transposed else shape) != matrix.shape:
            raise UnsupportedModel(f"{name} has shape {shape}, its config says {matrix.shape}")
        return
    if len(shape) != 3 or any(matrix.slot is None or matrix.shape[1] != shape[2] for matrix in matrices):
        raise UnsupportedModel(f"{name} has shape {shape}, which the declared {matrices[0].name} does not fit")
    reached = (0, 0)  # expert and row up to which the matrices lie side by side
    for index, (first, last) in sorted((matrix.slot.index, matrix.slot.rows) for matrix in matrices if matrix.slot):
        if (index, first) != reached:
            break
        reached = (index + 1, 0) if last == shape[1] else (index, last)
    if reached != (shape[0], 0):
        raise UnsupportedModel(f"{name} has shape {shape}, which its declared matrices do not tile")


def stages(layers: Sequence[PlannedLayer], is_sequential: bool) -> Iterator[list[PlannedLayer]]:
    """The groups of targeted layers that are calibrated together: all at once, or one stage after the other."""
    targeted = [layer for layer in layers if layer.options is not None]
    keys = sorted({layer.matrix.stage for layer in targeted}) if is_sequential else [None]
    for key in keys:
        group = [layer for layer in targeted if key is None or layer.matrix.stage == key]
        if group:
            yield group


def alike(readers: Sequence[PlannedLayer], storage_dtype: Callable[[PlannedLayer], torch.dtype]) -> list[list[PlannedLayer]]:
    """Readers of one input in groups that `solve_layers` takes at once: the same options and the same storage dtype."""
    groups: dict[Hashable, list[PlannedLayer]] = {}
    for layer in readers:
        groups.setdefault((layer.options, storage_dtype(layer)), []).append(layer)
    return list(groups.values())


def are_small(matrices: Iterable[Matrix]) -> bool:
    """Whether those of a block are solved abreast: their operations are short, and several have room. It is asked of the whole
    block, so that it does not depend on how many are calibrated at once."""
    return all(matrix.shape[1] ** 2 <= ABREAST_SQUARE for matrix in matrices)


def solve_readers(
    block: nn.Module,
    readers: Sequence[PlannedLayer],
    hessian: Hessian,
    storage_dtype: Callable[[PlannedLayer], torch.dtype],
    drift_share: float = 0.0,
) -> Iterator[tuple[PlannedLayer, LayerSolution, LayerResult]]:
    """Solve all matrices that read one input, whatever their options; see `solve_layers`."""
    for group in alike(readers, storage_dtype):
        found = solve_layers(block, group, hessian, storage_dtype(group[0]), drift_share)
        for layer, (solution, result) in zip(group, found, strict=True):
            yield layer, solution, result


def solve_layers(
    block: nn.Module, layers: Sequence[PlannedLayer], hessian: Hessian, storage_dtype: torch.dtype, drift_share: float = 0.0
) -> list[tuple[LayerSolution, LayerResult]]:
    """Solve matrices that read one input with the same options, and account for each as the output file will hold it.

    Args: drift_share: of asymmetric calibration; second-order methods alone have the damping that it needs.
    Raises: NumericalError: when a solution is not finite in the storage dtype.
    """
    begin = time.perf_counter()
    options = layers[0].options
    assert options is not None
    matrices = [matrix_weight(block, layer).float() for layer in layers]
    damp = getattr(options, "damp", None)
    wanted = matrices if damp is None else [target(W_RC, hessian, drift_share, damp) for W_RC in matrices]
    problems = [
        LayerProblem(layer.name, W_RC, hessian, scale_dtype(storage_dtype)) for layer, W_RC in zip(layers, wanted, strict=True)
    ]
    solutions = solve_together(problems, options)
    spent_s, rows = time.perf_counter() - begin, sum(len(W_RC) for W_RC in matrices)
    return [
        _account(layer, W_RC, solution, hessian, storage_dtype, spent_s * len(W_RC) / rows)
        for layer, W_RC, solution in zip(layers, matrices, solutions, strict=True)
    ]


def solve_matrix(
    W_RC: Tensor, layer: PlannedLayer, hessian: Hessian, storage_dtype: torch.dtype, wanted_RC: Tensor | None = None
) -> tuple[LayerSolution, LayerResult]:
    """The same for one given matrix, in float32. Args: wanted_RC: weights to come close to, where those are not W itself."""
    assert layer.options is not None
    begin = time.perf_counter()
    goal_RC = W_RC if wanted_RC is None else wanted_RC
    solution = solve(LayerProblem(layer.name, goal_RC, hessian, scale_dtype(storage_dtype)), layer.options)
    return _account(layer, W_RC, solution, hessian, storage_dtype, time.perf_counter() - begin)


def _account(
    layer: PlannedLayer,
    W_RC: Tensor,
    solution: LayerSolution,
    hessian: Hessian,
    storage_dtype: torch.dtype,
    solving_s: float,
) -> tuple[LayerSolution, LayerResult]:
    begin = time.perf_counter()
    stored_RC = solution.weights.to_dense().to(storage_dtype)
    if not all_finite(stored_RC):
        raise NumericalError(layer.name, f"{solution.method} gave weights that {storage_dtype} cannot hold")
    if isinstance(solution.weights, DenseWeights):
        solution = replace(solution, weights=DenseWeights(stored_RC))
    coded = solution.weights if isinstance(solution.weights, GridWeights | SpqrWeights) else None
    result = LayerResult(
        name=layer.name,
        block=layer.block,
        shape=layer.matrix.shape,
        method=solution.method,
        relative_error=relative_error(W_RC, stored_RC.float(), hessian),
        sparsity=float((stored_RC == 0).sum()) / stored_RC.numel(),
        bits=coded.bits if coded else None,
        group_size=coded.group_size if coded and coded.group_size < W_RC.shape[1] else None,
        bits_per_weight=solution.weights.stored_bits() / stored_RC.numel(),
        damp=solution.damp,
        tokens=hessian.tokens,
        fallbacks=solution.fallbacks,
        seconds=solving_s + time.perf_counter() - begin,
    )
    return solution, result


def scale_dtype(storage_dtype: torch.dtype) -> torch.dtype:
    """The dtype that scales are rounded to: one that float16 and the model's dtype both hold, so that every format stores the
    very scales that the solver used, and another format can be written later without rounding again."""
    return torch.bfloat16 if storage_dtype == torch.bfloat16 else torch.float16


def matrix_weight(block: nn.Module, layer: PlannedLayer) -> Tensor:
    """A matrix's present weights as (out_features, in_features): a view on the block's parameter."""
    parameter = block.get_parameter(layer.matrix.parameter).detach()
    return matrix_view(parameter, layer.matrix, is_fused=layer.matrix.slot is not None)


def install(block: nn.Module, layer: PlannedLayer, weights: Weights, storage_dtype: torch.dtype) -> None:
    """Put compressed weights into the block, after the round trip through the storage dtype."""
    matrix_weight(block, layer).copy_(weights.to_dense().to(storage_dtype))
