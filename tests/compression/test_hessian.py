"""Hessians against plain sums, their factor against explicit inverses, and the ladder on matrices that have no factor."""

import math
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from compression.errors import NumericalError
from compression.hessian import PANEL, Accumulator, Hessian, SingularHessian
from tests.compression import brute_force
from tests.compression.problems import correlated_inputs, hessian_of

CPU = torch.device("cpu")


def accumulated(*windows: Tensor) -> Hessian:
    accumulator = Accumulator(windows[0].shape[-1], CPU)
    for X in windows:
        accumulator.add(X)
    return accumulator.finish("layer")


def almost_definite(lowest: float) -> Hessian:
    """Unit diagonal, one eigenvalue `lowest` below zero: damping above |lowest| is needed, and cures it."""
    direction_C = torch.ones(4) / 2
    H_CC = torch.eye(4) - (1 - lowest) * torch.outer(direction_C, direction_C)
    return Hessian(H_CC / H_CC.diagonal().mean(), 10)


def test_hessian_is_the_mean_outer_product_over_tokens_times_two() -> None:
    first, second = correlated_inputs(12, 6).view(3, 4, 6), correlated_inputs(5, 6, seed=1)
    hessian = accumulated(first, second)
    rows = [row for X in (first.reshape(-1, 6), second) for row in X.double()]
    expected = 2 / 17 * sum((torch.outer(x, x) for x in rows), torch.zeros(6, 6, dtype=torch.float64))
    assert hessian.tokens == 17
    torch.testing.assert_close(hessian.H_CC.double(), expected, rtol=1e-5, atol=1e-6)  # summed in float32


@pytest.mark.parametrize("shape", [(6,), (1, 6), (1, 1, 6)])
def test_lone_token_counts_once(shape: tuple[int, ...]) -> None:
    x = correlated_inputs(1, 6)[0]
    hessian = accumulated(x.view(shape))
    assert hessian.tokens == 1
    torch.testing.assert_close(hessian.H_CC, 2 * torch.outer(x, x))


def test_inputs_of_low_precision_are_summed_in_float32() -> None:
    X_NC = torch.full((4096, 2), 1.0, dtype=torch.bfloat16)  # in bfloat16 the sum would stop at 256
    assert accumulated(X_NC).H_CC.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert accumulated(X_NC).H_CC.dtype == torch.float32


def test_no_token_gives_zeros_and_says_so() -> None:
    hessian = Accumulator(3, CPU).finish("layer")
    assert hessian.tokens == 0
    assert not hessian.H_CC.any()
    assert hessian.dead_C.all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30], ids=["nan", "inf", "-inf", "square overflows"])
def test_input_without_a_finite_square_names_the_layer(value: float) -> None:
    X_NC = correlated_inputs(8, 4)
    X_NC[5, 2] = value
    with pytest.raises(NumericalError, match="NaN or infinity") as caught:
        accumulated(X_NC)
    assert caught.value.layer == "layer"


def test_activity_order_is_falling_and_ties_keep_storage_order() -> None:
    hessian = Hessian(torch.diag(torch.tensor([1.0, 3.0, 0.0, 3.0, 1.0, 9.0])), 10)
    assert hessian.activity_order().tolist() == [5, 1, 3, 0, 4, 2]


@pytest.mark.parametrize("columns", [1, 2, 7, 16])
@pytest.mark.parametrize("by_activity", [False, True], ids=["storage order", "activity order"])
def test_rows_of_the_factor_are_those_of_trailing_inverses(columns: int, by_activity: bool) -> None:
    hessian = hessian_of(correlated_inputs(64, columns))
    factor = hessian.factor(0.05, by_activity=by_activity)
    H_CC = brute_force.damped(hessian.H_CC, 0.05)
    if by_activity:
        order = sorted(range(columns), key=lambda column: -float(hessian.H_CC[column, column]))
        H_CC = H_CC[order][:, order]
    for column in range(columns):
        row = torch.linalg.inv(H_CC[column:, column:])[0]
        expected = row / row[0].sqrt()
        torch.testing.assert_close(factor.U_CC[column, column:].double(), expected, rtol=1e-4, atol=1e-5)  # float32
    assert factor.damp == 0.05
    assert factor.steps == ()


@pytest.mark.parametrize("columns", [5, 64, 200])
def test_factor_is_upper_with_positive_diagonal_and_inverts_the_damped_hessian(columns: int) -> None:
    hessian = hessian_of(correlated_inputs(4 * columns, columns))
    U_CC = hessian.factor(0.01).U_CC.double()
    assert torch.equal(U_CC, U_CC.triu())
    assert (U_CC.diagonal() > 0).all()
    product = U_CC.T @ U_CC @ brute_force.damped(hessian.H_CC, 0.01)
    torch.testing.assert_close(product, torch.eye(columns).double(), rtol=0, atol=1e-4)  # float32 times the condition, ~1e3


def test_dead_input_is_decoupled_from_all_others() -> None:
    X_NC = correlated_inputs(40, 6)
    X_NC[:, 2] = 0
    hessian = hessian_of(X_NC)
    assert hessian.dead_C.tolist() == [False, False, True, False, False, False]
    U_CC = hessian.factor(0.01).U_CC
    others = torch.arange(6) != 2
    assert not U_CC[2, others].any()
    assert not U_CC[others, 2].any()
    expected = brute_force.upper_factor(brute_force.damped(hessian.H_CC, 0.01))
    torch.testing.assert_close(U_CC.double(), expected, rtol=1e-4, atol=1e-5)


def test_factoring_leaves_the_hessian_alone() -> None:
    hessian = hessian_of(correlated_inputs(40, 6))
    before = hessian.H_CC.clone()
    hessian.factor(0.01)
    hessian.factor(0.01, by_activity=True)
    assert torch.equal(hessian.H_CC, before)


def test_scale_of_the_hessian_scales_the_factor_and_nothing_else() -> None:
    hessian = hessian_of(correlated_inputs(40, 6))
    scaled = Hessian(hessian.H_CC * 2**20, hessian.tokens)
    assert torch.equal(scaled.factor(0.01).U_CC * 2**10, hessian.factor(0.01).U_CC)


def test_one_factor_serves_all_who_ask_for_the_same_damping_and_order() -> None:
    hessian = hessian_of(correlated_inputs(40, 6))
    factor = hessian.factor(0.01)
    assert hessian.factor(0.01) is factor
    assert hessian.factor(0.02) is not factor
    assert hessian.factor(0.01, by_activity=True) is not factor
    assert hessian.factor(0.01) is factor


@pytest.mark.parametrize(("lowest", "damp"), [(-0.005, 0.01), (-0.05, 0.1), (-0.5, 1.0)])
def test_damping_climbs_tenfold_until_the_matrix_is_definite(lowest: float, damp: float) -> None:
    factor = almost_definite(lowest).factor(0.01)
    tried = [0.01, 0.1, 1.0]
    assert factor.damp == pytest.approx(damp)
    assert len(factor.steps) == tried.index(damp)
    assert all(f"damp {step:g} in float32" in said for step, said in zip(tried, factor.steps, strict=False))


def test_damping_stops_at_one() -> None:
    factor = almost_definite(-0.5).factor(0.3)
    assert factor.damp == 1.0
    assert factor.steps == ("not positive definite with damp 0.3 in float32",)


def test_singular_hessian_has_a_factor_as_soon_as_damping_is_seen_in_float32() -> None:
    factor = Hessian(torch.ones(8, 8), 10).factor(1e-9)
    assert 1e-9 < factor.damp < 1e-4
    assert len(factor.steps) >= 1
    assert torch.isfinite(factor.U_CC).all()


def test_float64_is_tried_where_float32_fails_at_every_damping() -> None:
    """The diagonal's mean overflows."""
    factor = Hessian(torch.eye(4) * 3e38, 10).factor(0.01)
    assert factor.damp == 0.01
    assert [step.rpartition(" ")[2] for step in factor.steps] == ["float32"] * 3
    expected = 1 / math.sqrt(float(torch.tensor(3e38)) * 1.01)
    assert factor.U_CC.diagonal().tolist() == pytest.approx([expected] * 4, rel=1e-6)


def test_subnormal_hessian_has_a_factor_whether_or_not_the_processor_counts_them_as_zero() -> None:
    """Where float32 has subnormal numbers they have few digits; where it has none, float64 is next."""
    factor = Hessian(torch.eye(4) * 1e-42, 10).factor(0.01)
    assert factor.damp == 0.01
    assert factor.U_CC.diagonal().tolist() == pytest.approx([1 / math.sqrt(1e-42 * 1.01)] * 4, rel=1e-3)


def negative() -> Tensor:
    return -torch.eye(3)


def with_nan() -> Tensor:
    H_CC = torch.eye(3)
    H_CC[1, 1] = math.nan
    return H_CC


@pytest.mark.parametrize("make", [negative, with_nan])
def test_matrix_without_a_factor_is_refused_after_all_steps_and_remembered(make: Callable[[], Tensor]) -> None:
    hessian = Hessian(make(), 10)
    with pytest.raises(SingularHessian) as first:
        hessian.factor(0.01)
    assert [f"in {dtype}" in step for dtype in ("float32", "float64") for step in first.value.steps] == [True] * 3 + [
        False
    ] * 6 + [True] * 3
    with pytest.raises(SingularHessian) as again:
        hessian.factor(0.01)
    assert again.value is first.value


def test_infinite_diagonal_has_no_factor_though_its_inverse_is_a_finite_zero() -> None:
    with pytest.raises(SingularHessian):
        Hessian(torch.diag(torch.tensor([math.inf, 1.0, 2.0])), 10).factor(0.01)


@pytest.mark.parametrize("tokens", [0, 40], ids=["no token", "zero inputs"])
def test_hessian_of_zeros_says_that_nothing_reached_the_layer(tokens: int) -> None:
    with pytest.raises(SingularHessian, match=rf"no calibration token reached this layer \({tokens} tokens"):
        Hessian(torch.zeros(4, 4), tokens).factor(0.01)


@pytest.mark.parametrize("columns", [255, 256, 257, 700])
@pytest.mark.parametrize("by_activity", [False, True], ids=["storage order", "activity order"])
def test_factor_is_the_plain_one_whatever_its_panels(columns: int, by_activity: bool) -> None:
    hessian = hessian_of(correlated_inputs(2 * columns, columns))
    H_CC = brute_force.damped(hessian.H_CC, 0.01)
    if by_activity:
        order_C = hessian.activity_order()
        H_CC = H_CC[order_C][:, order_C]
    found = hessian.factor(0.01, by_activity=by_activity).U_CC.double()
    torch.testing.assert_close(found, brute_force.upper_factor(H_CC), rtol=1e-3, atol=1e-4)  # float32 times the condition


MEASURE = """
import sys, torch
from pathlib import Path
from compression.hessian import Hessian

def kilobytes(what):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))

columns = int(sys.argv[1])
hessian = Hessian(torch.eye(columns) + 0.5, 100)
Hessian(torch.eye(1000) + 0.5, 100).factor(0.01, by_activity=True)  # buffers that libraries keep
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
before = kilobytes("VmRSS")
factor = hessian.factor(0.01, by_activity=True)
assert factor.steps == ()
print((kilobytes("VmHWM") - before) * 1024 / (4 * columns**2))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory cannot be set back here")
def test_factorisation_holds_one_copy_of_the_hessian() -> None:
    columns = 2560
    found = subprocess.run([sys.executable, "-c", MEASURE, str(columns)], capture_output=True, text=True, check=True)
    panels = 3 * PANEL / columns
    # What libraries work in comes to something else each time, in sixteen runs up to a quarter. A second copy would be 1.
    assert 0.9 < float(found.stdout) < 1 + panels + 0.5
