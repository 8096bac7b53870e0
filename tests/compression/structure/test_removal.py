"""Structured removal against naive least squares, and what its saliencies promise."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from compression.errors import NumericalError
from compression.structure.removal import Removed, remove_units

SHAPES = pytest.mark.parametrize(("columns", "width"), [(6, 1), (8, 1), (8, 2), (6, 3)])


def problem(columns: int, rows: int = 5, tokens: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    """W (R, C) and correlated inputs X (N, C), float64."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    X_NC = torch.randn(tokens, columns, generator=generator, dtype=torch.float64) @ mixing
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64), X_NC


def hessian(X_NC: Tensor) -> Tensor:
    return 2 / len(X_NC) * X_NC.T @ X_NC


def columns_of(units: tuple[int, ...], width: int) -> list[int]:
    return [unit * width + column for unit in units for column in range(width)]


def least_squares(W_RC: Tensor, X_NC: Tensor, columns: list[int]) -> tuple[Tensor, float]:
    """The best weights of these columns alone for the dense outputs, and their mean squared error."""
    Y_NR = X_NC @ W_RC.T
    W_KR = torch.linalg.lstsq(X_NC[:, columns], Y_NR).solution
    return W_KR.T, float((X_NC[:, columns] @ W_KR - Y_NR).square().sum(1).mean())


def naive(W_RC: Tensor, X_NC: Tensor, width: int) -> list[int]:
    """Try every unit, fit from scratch, and take out the one whose loss is least, again and again."""
    left = list(range(W_RC.shape[1] // width))
    order = []
    while len(left) > 1:
        errors = {}
        for unit in left:
            others = tuple(other for other in left if other != unit)
            errors[unit] = least_squares(W_RC, X_NC, columns_of(others, width))[1]
        order.append(min(errors, key=errors.__getitem__))
        left.remove(order[-1])
    return order


def all_levels(W_RC: Tensor, H_CC: Tensor, width: int, refresh: int = 256) -> list[Removed]:
    return list(remove_units(W_RC, H_CC, width, range(W_RC.shape[1] // width, -1, -1), refresh=refresh))


@SHAPES
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("refresh", [1, 2, 256])
def test_each_step_is_that_of_naive_least_squares(columns: int, width: int, seed: int, refresh: int) -> None:
    W_RC, X_NC = problem(columns, seed=seed)
    levels = all_levels(W_RC, hessian(X_NC), width, refresh)
    assert list(levels[-1].order) == naive(W_RC, X_NC, width)
    for level in levels:
        best_RK, error = least_squares(W_RC, X_NC, columns_of(level.kept, width))
        torch.testing.assert_close(level.weights_RK, best_RK)
        assert level.error == pytest.approx(error, rel=1e-6, abs=1e-9)
        assert level.damp == 0


def test_saliencies_add_up_to_the_measured_error_over_hundreds_of_removals() -> None:
    W_RC, X_NC = problem(320, rows=12, tokens=2000)
    for level in remove_units(W_RC, hessian(X_NC), 1, (300, 100, 20), refresh=64):
        K = columns_of(level.kept, 1)
        measured = float((X_NC[:, K] @ level.weights_RK.T - X_NC @ W_RC.T).square().sum(1).mean())
        assert level.error == pytest.approx(measured, rel=1e-6)


def test_inverting_anew_changes_nothing_but_rounding() -> None:
    W_RC, X_NC = problem(64, tokens=400)
    often, never = (list(remove_units(W_RC, hessian(X_NC), 2, (20, 5), refresh=every)) for every in (3, 1000))
    for one, other in zip(often, never, strict=True):
        assert one.order == other.order
        torch.testing.assert_close(one.weights_RK, other.weights_RK)


def test_with_inputs_that_tell_nothing_of_each_other_columns_go_by_their_norm() -> None:
    W_RC, _ = problem(12)
    levels = all_levels(W_RC, 3 * torch.eye(12, dtype=torch.float64), 1)
    by_norm = W_RC.square().sum(0).argsort().tolist()
    assert list(levels[-1].order) == by_norm[:-1]
    for level in levels:
        assert torch.equal(level.weights_RK, W_RC[:, list(level.kept)])  # nothing to make up with


def test_of_two_columns_that_say_the_same_one_goes_for_nothing_and_the_other_is_dear() -> None:
    W_RC, X_NC = problem(6)
    X_NC[:, 1] = X_NC[:, 0] + 1e-5 * torch.randn(len(X_NC), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    H_CC = hessian(X_NC)
    first, *later = all_levels(W_RC, H_CC, 1)[1:]
    assert first.order[0] in (0, 1)
    assert first.error < 1e-6
    twin = 1 - first.order[0]
    assert twin not in later[0].order  # its saliency has jumped
    inverse = torch.linalg.inv(H_CC)
    at_once = (W_RC.square().sum(0) / inverse.diagonal()).argsort().tolist()
    assert set(at_once[:2]) == {0, 1}  # a ranking that is made once takes both
    both_gone = least_squares(W_RC, X_NC, [2, 3, 4, 5])[1]
    assert later[0].error < both_gone / 2


@SHAPES
def test_nothing_goes_twice_and_errors_never_fall(columns: int, width: int) -> None:
    W_RC, X_NC = problem(columns, seed=7)
    levels = all_levels(W_RC, hessian(X_NC), width)
    assert all(one.error <= other.error for one, other in pairwise(levels))
    for level in levels:
        assert len(set(level.order)) == len(level.order)
        assert sorted((*level.order, *level.kept)) == list(range(columns // width))
        assert level.weights_RK.shape == (5, len(level.kept) * width)
    assert levels[0].error == 0
    assert torch.equal(levels[0].weights_RK, W_RC)


def test_dead_inputs_go_first_and_cost_nothing() -> None:
    W_RC, X_NC = problem(8)
    X_NC[:, [2, 5]] = 0
    levels = all_levels(W_RC, hessian(X_NC), 1)
    assert set(levels[2].order) == {2, 5}
    assert levels[2].error == 0
    assert levels[3].error > 0


def test_a_singular_hessian_is_damped_and_says_so() -> None:
    W_RC, X_NC = problem(16, tokens=6)
    levels = all_levels(W_RC, hessian(X_NC), 1)
    assert {level.damp for level in levels} == {0.01}


def test_inputs_are_left_as_they_were() -> None:
    W_RC, X_NC = problem(8)
    H_CC = hessian(X_NC)
    before = W_RC.clone(), H_CC.clone()
    all_levels(W_RC, H_CC, 2)
    assert torch.equal(W_RC, before[0])
    assert torch.equal(H_CC, before[1])


def test_what_is_not_finite_is_refused() -> None:
    W_RC, X_NC = problem(4)
    H_CC = hessian(X_NC)
    H_CC[0, 0] = torch.nan
    with pytest.raises(NumericalError, match="NaN"):
        all_levels(W_RC, H_CC, 1)
