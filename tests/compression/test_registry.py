"""Options find their solver."""

import pytest

from compression import methods  # noqa: F401  registers the solvers
from compression.layer import LayerProblem, LayerSolution
from compression.options import METHOD_OPTIONS, MagnitudeOptions
from compression.registry import register, solve
from tests.compression.problems import layer


def test_second_solver_of_the_same_options_is_an_error() -> None:
    def again(problem: LayerProblem, options: MagnitudeOptions) -> LayerSolution:
        raise AssertionError

    with pytest.raises(RuntimeError, match="MagnitudeOptions already has a solver"):
        register(MagnitudeOptions)(again)


@pytest.mark.parametrize("method", METHOD_OPTIONS)
def test_every_method_has_a_solver_that_answers_in_its_name(method: str) -> None:
    model = METHOD_OPTIONS[method]
    targets = {name: value for name, value in {"sparsity": 0.5, "bits": 4}.items() if name in model.model_fields}
    assert solve(layer(2, 16), model.model_validate(targets)).method == method


def test_options_carry_the_name_they_are_found_by() -> None:
    assert {name: model.model_fields["method"].default for name, model in METHOD_OPTIONS.items()} == {
        name: name for name in METHOD_OPTIONS
    }
    assert all(model.good_for for model in METHOD_OPTIONS.values())
