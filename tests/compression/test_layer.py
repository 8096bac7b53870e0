"""What goes into a method and what comes out."""

import pytest
import torch

from compression.hessian import Hessian
from compression.layer import LayerSolution, relative_error
from compression.options import Bits, top_code
from compression.weights import KINDS, DenseWeights, GridWeights
from tests.compression.problems import layer, random_weights


def grid_weights(bits: Bits = 3) -> GridWeights:
    generator = torch.Generator().manual_seed(0)
    return GridWeights(
        codes_RC=torch.randint(top_code(bits) + 1, (5, 8), generator=generator, dtype=torch.uint8),
        scale_RG=torch.rand(5, 2, generator=generator) + 0.1,
        zero_RG=torch.randint(top_code(bits) + 1, (5, 2), generator=generator).float(),
        group_C=torch.tensor([0, 1, 1, 0, 0, 1, 0, 1], dtype=torch.int32),
        bits=bits,
    )


def test_grid_weights_are_scale_times_code_less_zero_point_of_the_columns_group() -> None:
    weights = grid_weights()
    dense = weights.to_dense()
    for row in range(5):
        for column in range(8):
            group = int(weights.group_C[column])
            steps = int(weights.codes_RC[row, column]) - int(weights.zero_RG[row, group])
            assert dense[row, column] == weights.scale_RG[row, group] * steps


@pytest.mark.parametrize("bits", [2, 8, "ternary"])
def test_grid_weights_survive_the_way_through_tensors_to_the_last_bit(bits: Bits) -> None:
    weights = grid_weights(bits)
    back = KINDS[weights.kind].from_tensors(weights.tensors())
    assert isinstance(back, GridWeights)
    assert back.bits == bits
    assert torch.equal(back.to_dense(), weights.to_dense())
    assert torch.equal(back.codes_RC, weights.codes_RC)


def test_dense_weights_survive_the_way_through_tensors() -> None:
    W_RC = random_weights(3, 4).half()
    back = KINDS[DenseWeights.kind].from_tensors(DenseWeights(W_RC).tensors())
    assert isinstance(back, DenseWeights)
    assert torch.equal(back.to_dense(), W_RC)
    assert back.to_dense().dtype == torch.float16


def test_fallback_is_told_with_the_steps_that_led_to_it() -> None:
    solution = LayerSolution(DenseWeights(torch.zeros(1, 1)), "magnitude", fallbacks=("its own",))
    assert solution.after(("first", "second")).fallbacks == ("first", "second", "fell back to magnitude", "its own")


def test_relative_error_is_the_lost_share_of_the_outputs_on_calibration_tokens() -> None:
    X_NC = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    problem = layer(4, 6, X_NC=X_NC)
    solved_RC = problem.W_RC.round()
    lost = ((problem.W_RC - solved_RC).double() @ X_NC.double().T).square().sum()
    whole = (problem.W_RC.double() @ X_NC.double().T).square().sum()
    found = relative_error(problem.W_RC, solved_RC, problem.hessian)
    assert found == pytest.approx(float(lost / whole), rel=1e-5)  # H is summed in float32
    assert relative_error(problem.W_RC, problem.W_RC, problem.hessian) == 0
    assert relative_error(problem.W_RC, torch.zeros(4, 6), problem.hessian) == 1


def test_relative_error_is_unknown_where_nothing_was_measured() -> None:
    W_RC = random_weights(2, 3)
    assert relative_error(W_RC, W_RC, Hessian(torch.zeros(3, 3), 0)) is None
    assert relative_error(W_RC, W_RC, Hessian(torch.zeros(3, 3), 9)) is None
    assert relative_error(torch.zeros(2, 3), W_RC, Hessian(torch.eye(3), 9)) is None
