"""SpQR's two-level grids against loops in float64 and against numpy's float16 arithmetic."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compression import spqr_grid
from tests.compression import brute_force
from tests.compression.examples import many
from tests.compression.problems import random_weights, seeded

BITS = (2, 3, 4)


def naive_usefulness(weights_S: list[float], d_S: list[float], bits: int) -> list[float]:
    """Refit for every weight that is left out."""

    def error(members: list[int]) -> float:
        if not members:
            return 0.0
        scale, zero = brute_force.fractional_grid([weights_S[k] for k in members], bits)
        values = {k: brute_force.fractional_nearest(weights_S[k], scale, zero, bits)[1] for k in members}
        return sum(((weights_S[k] - values[k]) / d_S[k]) ** 2 for k in members)

    everyone = list(range(len(weights_S)))
    return [error(everyone) - error([k for k in everyone if k != left_out]) for left_out in everyone]


@many
@given(
    # Few distinct values: ties of the smallest and the largest, and groups of one value, come up all the time.
    rows=st.integers(1, 6).flatmap(
        lambda size: st.lists(st.lists(st.integers(-3, 3), min_size=size, max_size=size), min_size=1, max_size=4)
    ),
    noise=st.sampled_from([0.0, 0.3]),
    bits=st.sampled_from(BITS),
)
def test_usefulness_is_that_of_refitting_without_each_weight(rows: list[list[int]], noise: float, bits: int) -> None:
    W_RS = torch.tensor(rows, dtype=torch.float64)
    W_RS += noise * torch.randn(W_RS.shape, generator=seeded(3), dtype=torch.float64)
    d_S = 0.5 + torch.rand(W_RS.shape[1], generator=seeded(4), dtype=torch.float64)
    found_SR = spqr_grid.usefulness(W_RS.T.contiguous(), d_S, bits)
    expected = torch.tensor([naive_usefulness(w_S, d_S.tolist(), bits) for w_S in W_RS.tolist()], dtype=torch.float64)
    torch.testing.assert_close(found_SR.T, expected, rtol=1e-9, atol=1e-9)


def test_the_weight_that_stretches_its_group_is_the_most_useful_to_leave_out() -> None:
    W_SR = random_weights(16, 8)
    W_SR[5] = 10.0
    harm_SR = spqr_grid.usefulness(W_SR, torch.ones(16), 3)
    assert (harm_SR.argmax(0) == 5).all()
    assert (spqr_grid.without(W_SR, harm_SR == harm_SR.amax(0)).amax(0) < 5).all()


def test_weights_left_out_become_the_mean_of_the_others() -> None:
    W_SR = torch.tensor([[1.0, 1.0], [2.0, 2.0], [6.0, 3.0]])
    left_out_SR = torch.tensor([[False, True], [False, True], [True, True]])
    assert spqr_grid.without(W_SR, left_out_SR).tolist() == [[1.0, 1.0], [2.0, 2.0], [1.5, 3.0]]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_grid_covers_its_group_whether_or_not_that_holds_zero(bits: int, shift: float) -> None:
    W_SR = random_weights(16, 9).double() + shift
    scale_R, zero_R = spqr_grid.fit(W_SR, bits)
    codes_SR = spqr_grid.quantize(W_SR, scale_R, zero_R, bits)
    assert codes_SR.amin() == 0
    assert codes_SR.amax() == 2**bits - 1
    assert ((scale_R * (codes_SR - zero_R) - W_SR).abs() <= scale_R / 2 + 1e-12).all()


@pytest.mark.parametrize("value", [0.0, 0.75, -0.75])
@pytest.mark.parametrize("bits", BITS)
def test_group_of_one_value_keeps_it(value: float, bits: int) -> None:
    W_SR = random_weights(16, 4)
    W_SR[:, 2] = value
    scale_R, zero_R = spqr_grid.fit(W_SR, bits)
    codes_S = spqr_grid.quantize(W_SR[:, 2], scale_R[2], zero_R[2], bits)
    torch.testing.assert_close(scale_R[2] * (codes_S - zero_R[2]), W_SR[:, 2], rtol=1e-6, atol=0)
    if value == 0:
        assert scale_R[2] == scale_R[[0, 1, 3]].min()


@pytest.mark.parametrize("size", [1, 2, 16])
def test_groups_of_zeros_alone_stay_zero(size: int) -> None:
    scale_R, zero_R = spqr_grid.fit(torch.zeros(size, 3), 3)
    assert torch.isfinite(scale_R).all()
    assert not zero_R.any()


@many
@given(
    values=st.lists(st.floats(-3, 3, width=16), min_size=1, max_size=40),
    code=st.integers(0, 15),
    scale=st.floats(2**-20, 4, width=16),
)
def test_values_are_those_of_float16_arithmetic(values: list[float], code: int, scale: float) -> None:
    zero = np.array(values, dtype=np.float16)
    expected = np.float16(scale) * (np.float16(code) - zero)
    found = spqr_grid.dequantize(torch.tensor(float(code)), torch.tensor(scale), torch.from_numpy(zero).float())
    assert found.numpy().astype(np.float16).tobytes() == expected.tobytes()
    assert torch.equal(found, found.half().float())


def table(step: float, zero: float, bits: int) -> list[float]:
    """The values of a second-level grid in numpy's float16."""
    codes = np.arange(2**bits, dtype=np.float16)
    return [float(value) for value in np.float16(step) * (codes - np.float16(zero))]


@many
@given(
    values=st.lists(st.floats(2**-20, 2, width=32), min_size=1, max_size=40),
    bits=st.sampled_from((2, 3, 4, 8)),
    run=st.integers(1, 20),
    sign=st.sampled_from([1, -1]),
)
def test_statistics_take_the_nearest_value_of_their_runs_grid(values: list[float], bits: int, run: int, sign: int) -> None:
    values_R = sign * torch.tensor(values)
    codes_R, step_T, zero_T = spqr_grid.fit_statistics(values_R, bits, run, is_positive=sign > 0)
    read_R = spqr_grid.statistics(codes_R[:, None], step_T[:, None], zero_T[:, None], run)[:, 0]
    assert len(step_T) == len(zero_T) == -(-len(values) // run)
    for row, value in enumerate(values_R.tolist()):
        offered = table(float(step_T[row // run]), float(zero_T[row // run]), bits)
        allowed = [x for x in offered if x > 0] if sign > 0 else offered
        assert float(read_R[row]) in allowed
        assert abs(float(read_R[row]) - value) == pytest.approx(min(abs(x - value) for x in allowed), abs=1e-7)


@pytest.mark.parametrize("is_positive", [True, False])
def test_statistics_are_within_half_a_step_of_what_they_were(is_positive: bool) -> None:
    values_R = torch.rand(50, generator=seeded(1)) + 0.1
    for bits in (3, 4, 8):
        codes_R, step_T, zero_T = spqr_grid.fit_statistics(values_R, bits, 16, is_positive=is_positive)
        read_R = spqr_grid.statistics(codes_R[:, None], step_T[:, None], zero_T[:, None], 16)[:, 0]
        spread = 1 / (2**bits - 1)
        assert float((read_R - values_R).abs().max()) < 0.5 * spread + 0.002  # and what float16 rounds off


@pytest.mark.parametrize("values", [[0.013] * 16, [0.0, 0.0], [-3.5]], ids=["alike", "zeros", "single"])
def test_run_of_one_value_reads_as_its_float16(values: list[float]) -> None:
    values_R = torch.tensor(values)
    codes_R, step_T, zero_T = spqr_grid.fit_statistics(values_R, 3, 16, is_positive=False)
    read_RG = spqr_grid.statistics(codes_R[:, None], step_T[:, None], zero_T[:, None], 16)
    assert torch.equal(read_RG[:, 0], values_R.half().float())


@pytest.mark.parametrize("values", [[1e-9, 1.0], [1e-12] * 3, [1e-9, 1e-4, 1.0, 2.0]], ids=str)
def test_no_scale_is_read_as_zero_or_less(values: list[float]) -> None:
    codes_R, step_T, zero_T = spqr_grid.fit_statistics(torch.tensor(values), 3, 16, is_positive=True)
    assert (spqr_grid.statistics(codes_R[:, None], step_T[:, None], zero_T[:, None], 16) > 0).all()


def rows_alone(values_R: Tensor, run: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [spqr_grid.fit_statistics(part, 3, run, is_positive=True) for part in values_R.split(run)]


def test_last_run_may_be_short() -> None:
    values_R = torch.rand(21, generator=seeded(2)) + 0.5
    whole = spqr_grid.fit_statistics(values_R, 3, 8, is_positive=True)
    parts = rows_alone(values_R, 8)
    for which in range(3):
        assert torch.equal(whole[which], torch.cat([part[which] for part in parts]))
