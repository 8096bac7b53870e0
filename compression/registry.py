"""Method options -> the function that solves one layer with them."""

from collections.abc import Callable
from typing import Any, TypeVar

from compression.layer import LayerProblem, LayerSolution
from compression.options import MethodOptions

Options = TypeVar("Options", bound=MethodOptions)
Solver = Callable[[LayerProblem, Any], LayerSolution]

_SOLVERS: dict[type[MethodOptions], Solver] = {}


def register(
    options: type[Options],
) -> Callable[[Callable[[LayerProblem, Options], LayerSolution]], Callable[[LayerProblem, Options], LayerSolution]]:
    """Make a function the solver of these options; a second one for the same options is a bug."""

    def add(solver: Callable[[LayerProblem, Options], LayerSolution]) -> Callable[[LayerProblem, Options], LayerSolution]:
        if options in _SOLVERS:
            raise RuntimeError(f"{options.__name__} already has a solver")
        _SOLVERS[options] = solver
        return solver

    return add


def solve(layer: LayerProblem, options: MethodOptions) -> LayerSolution:
    """Solve one layer with the method that the options belong to."""
    return _SOLVERS[type(options)](layer, options)
