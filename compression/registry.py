"""Method options -> the function that solves one layer with them, or several that read the same input as one."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from compression.hessian import SingularHessian
from compression.layer import LayerProblem, LayerSolution
from compression.options import MethodOptions

Options = TypeVar("Options", bound=MethodOptions)
Solver = Callable[[LayerProblem, Any], LayerSolution]


@dataclass(frozen=True)
class _Method:
    solver: Solver
    fallback: Solver | None
    is_stackable: bool


_METHODS: dict[type[MethodOptions], _Method] = {}


def register(
    options: type[Options],
    *,
    fallback: Callable[[LayerProblem, Options], LayerSolution] | None = None,
    is_stackable: bool = False,
) -> Callable[[Callable[[LayerProblem, Options], LayerSolution]], Callable[[LayerProblem, Options], LayerSolution]]:
    """Make a function the solver of these options; a second one for the same options is a bug.

    Args:
        fallback: the data-free cousin, which solves where the Hessian cannot be factorised.
        is_stackable: whether rows of different matrices may stand in one problem (`LayerProblem.parts`).
    """

    def add(solver: Callable[[LayerProblem, Options], LayerSolution]) -> Callable[[LayerProblem, Options], LayerSolution]:
        if options in _METHODS:
            raise RuntimeError(f"{options.__name__} already has a solver")
        _METHODS[options] = _Method(solver, fallback, is_stackable)
        return solver

    return add


def solve(layer: LayerProblem, options: MethodOptions) -> LayerSolution:
    """Solve one layer with the method that the options belong to."""
    return solve_together([layer], options)[0]


def solve_together(layers: Sequence[LayerProblem], options: MethodOptions) -> list[LayerSolution]:
    """Solve matrices that share one Hessian; each gets what it would get alone, up to the rounding of matrix products.

    The column sweep takes as many steps for one matrix as for all of them on top of each other.
    """
    method = _METHODS[type(options)]
    if method.is_stackable and len(layers) > 1:
        with suppress(SingularHessian):
            return method.solver(_stack(layers), options).split([len(layer.W_RC) for layer in layers])
    return [_solve_alone(method, layer, options) for layer in layers]


def _solve_alone(method: _Method, layer: LayerProblem, options: MethodOptions) -> LayerSolution:
    try:
        return method.solver(layer, options)
    except SingularHessian as failure:
        if method.fallback is None:
            raise
        return method.fallback(layer, options).after(failure.steps)


def _stack(layers: Sequence[LayerProblem]) -> LayerProblem:
    return LayerProblem(
        ", ".join(layer.name for layer in layers),
        torch.cat([layer.W_RC for layer in layers]),
        layers[0].hessian,
        layers[0].scale_dtype,
        tuple(len(layer.W_RC) for layer in layers),
    )
