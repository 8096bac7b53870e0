"""Grids against loops over single weights, and what holds for every grid: zero is on it, codes fit, scales can be stored."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compression.grids import dequantize, fit, minimum, quantize
from compression.options import BITS, WholeBits
from tests.compression import brute_force
from tests.compression.examples import few, many
from tests.compression.problems import random_weights

STORED = (torch.float32, torch.float16, torch.bfloat16)
symmetries = pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
searches = pytest.mark.parametrize("search", [False, True], ids=["minmax", "mse"])
storages = pytest.mark.parametrize("scale_dtype", STORED, ids=["float32", "float16", "bfloat16"])
widths = pytest.mark.parametrize("bits", BITS)


def power_sum(error: torch.Tensor) -> torch.Tensor:
    """The search's measure, in float64."""
    return error.double().abs().pow(2.4).sum(-1)


def snapped(W_RGS: torch.Tensor, scale_RG: torch.Tensor, zero_RG: torch.Tensor, bits: WholeBits) -> torch.Tensor:
    scale, zero = scale_RG[..., None], zero_RG[..., None]
    return dequantize(quantize(W_RGS, scale, zero, bits), scale, zero)


@widths
@symmetries
def test_minmax_grid_covers_each_group_as_a_loop_computes_it(bits: WholeBits, symmetric: bool) -> None:
    W_RGS = random_weights(5, 24).view(5, 3, 8).double()
    scale_RG, zero_RG = fit(W_RGS, bits, symmetric=symmetric, search=False, scale_dtype=torch.float64)
    for row in range(5):
        for group in range(3):
            scale, zero = brute_force.grid(W_RGS[row, group], bits, symmetric)
            assert float(scale_RG[row, group]) == pytest.approx(scale, rel=1e-14)
            assert float(zero_RG[row, group]) == zero


@widths
@symmetries
def test_minmax_grid_is_never_further_than_half_a_step_from_a_weight(bits: WholeBits, symmetric: bool) -> None:
    W_RGS = random_weights(8, 64, seed=bits).view(8, 4, 16).double()
    scale_RG, zero_RG = fit(W_RGS, bits, symmetric=symmetric, search=False, scale_dtype=torch.float64)
    steps = (snapped(W_RGS, scale_RG, zero_RG, bits) - W_RGS).abs() / scale_RG[..., None]
    assert float(steps.max()) <= 0.5 + 1e-9


@pytest.mark.parametrize("bits", [2, 3, 4])
@symmetries
def test_search_finds_the_range_that_trying_all_of_them_finds(bits: WholeBits, symmetric: bool) -> None:
    W_RGS = random_weights(2, 128, seed=bits).view(2, 2, 64).double()
    scale_RG, zero_RG = fit(W_RGS, bits, symmetric=symmetric, search=True, scale_dtype=torch.float64)
    sums_RG = power_sum(snapped(W_RGS, scale_RG, zero_RG, bits) - W_RGS)
    found = [brute_force.best_shrink(W_RGS[row, group], bits, symmetric) for row in range(2) for group in range(2)]
    assert any(shrink < 1 for shrink, _ in found)
    assert sums_RG.flatten().tolist() == pytest.approx([least for _, least in found], rel=1e-9)


@widths
@symmetries
@storages
def test_searched_grid_is_never_worse_than_the_minmax_grid(bits: WholeBits, symmetric: bool, scale_dtype: torch.dtype) -> None:
    W_RGS = random_weights(6, 128, seed=bits).view(6, 4, 32)
    plain, searched = (
        power_sum(snapped(W_RGS, *fit(W_RGS, bits, symmetric=symmetric, search=search, scale_dtype=scale_dtype), bits) - W_RGS)
        for search in (False, True)
    )
    assert (searched <= plain * (1 + 1e-5)).all()  # the search sums in float32
    assert bits > 4 or float(searched.sum()) < float(plain.sum())


@many
@given(
    group=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=12),
    bits=st.sampled_from(BITS),
    symmetric=st.booleans(),
    search=st.booleans(),
    scale_dtype=st.sampled_from(STORED),
)
def test_every_grid_holds_zero_and_fits_its_codes_and_its_storage(
    group: list[float], bits: WholeBits, symmetric: bool, search: bool, scale_dtype: torch.dtype
) -> None:
    W_RGS = torch.tensor([[group]])
    scale_RG, zero_RG = fit(W_RGS, bits, symmetric=symmetric, search=search, scale_dtype=scale_dtype)
    assert (scale_RG > 0).all() and torch.isfinite(scale_RG).all()
    assert torch.equal(scale_RG.to(scale_dtype).to(scale_RG.dtype), scale_RG), "the file could not hold this scale"
    assert torch.equal(zero_RG, zero_RG.round()) and 0 <= float(zero_RG) < 2**bits
    assert not symmetric or float(zero_RG) == 2 ** (bits - 1)
    code = quantize(torch.cat([W_RGS, torch.zeros(1, 1, 1)], -1), scale_RG[..., None], zero_RG[..., None], bits)
    assert torch.equal(code, code.round()) and float(code.min()) >= 0 and float(code.max()) < 2**bits
    assert float(dequantize(code, scale_RG[..., None], zero_RG[..., None])[..., -1]) == 0.0


@few
@given(bits=st.sampled_from(BITS), zero=st.integers(0, 255), scale=st.floats(2**-14, 1e3, width=32))
def test_values_of_a_grid_keep_their_codes_when_rounded_again(bits: WholeBits, zero: int, scale: float) -> None:
    codes = torch.arange(2**bits, dtype=torch.float32)
    grid = torch.tensor(scale), torch.tensor(float(zero % 2**bits))
    assert torch.equal(quantize(dequantize(codes, *grid), *grid, bits), codes)


def test_halfway_weights_go_to_the_even_code() -> None:
    weights = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5])
    assert quantize(weights, torch.tensor(1.0), torch.tensor(4.0), 3).tolist() == [2, 4, 4, 6, 6]


@symmetries
@searches
@storages
def test_group_of_zeros_stays_zero(symmetric: bool, search: bool, scale_dtype: torch.dtype) -> None:
    W_RGS = torch.zeros(2, 3, 16)
    scale_RG, zero_RG = fit(W_RGS, 4, symmetric=symmetric, search=search, scale_dtype=scale_dtype)
    assert torch.isfinite(scale_RG).all()
    assert torch.equal(snapped(W_RGS, scale_RG, zero_RG, 4), W_RGS)


@storages
def test_range_below_the_stored_dtype_gives_a_scale_above_zero(scale_dtype: torch.dtype) -> None:
    W_RGS = torch.full((1, 1, 16), 1e-30)
    scale_RG, zero_RG = fit(W_RGS, 8, symmetric=False, search=False, scale_dtype=scale_dtype)
    assert float(scale_RG) > 0
    assert torch.isfinite(snapped(W_RGS, scale_RG, zero_RG, 8)).all()


@pytest.mark.parametrize(("sign", "code"), [(1.0, 0), (-1.0, 15)], ids=["all positive", "all negative"])
def test_range_of_one_sign_is_stretched_to_zero(sign: float, code: int) -> None:
    W_RGS = sign * torch.linspace(3, 4, 16)[None, None]
    scale_RG, zero_RG = fit(W_RGS, 4, symmetric=False, search=False, scale_dtype=torch.float32)
    assert float(zero_RG) == code
    assert float(scale_RG) == pytest.approx(4 / 15)


def test_zero_point_stays_a_code_where_storage_rounds_the_scale_down() -> None:
    W_RGS = -torch.linspace(1, 2, 1000)[:, None, None].expand(-1, 1, 16)
    scale_RG, zero_RG = fit(W_RGS, 8, symmetric=False, search=False, scale_dtype=torch.bfloat16)
    assert float((-W_RGS[..., 0] / scale_RG).round().max()) == 256
    assert float(zero_RG.max()) == 255


@searches
def test_fitting_leaves_the_weights_alone(search: bool) -> None:
    W_RGS = random_weights(2, 16).view(2, 1, 16)
    before = W_RGS.clone()
    scale_RG, zero_RG = fit(W_RGS, 3, symmetric=False, search=search, scale_dtype=torch.float16)
    quantize(W_RGS, scale_RG[..., None], zero_RG[..., None], 3)
    assert torch.equal(W_RGS, before)


@storages
@searches
def test_ternary_grid_is_minus_one_zero_and_one_times_a_scale(search: bool, scale_dtype: torch.dtype) -> None:
    W_RGS = random_weights(4, 96, seed=5).view(4, 3, 32)
    scale_RG, zero_RG = fit(W_RGS, "ternary", symmetric=True, search=search, scale_dtype=scale_dtype)
    grid = scale_RG[..., None], zero_RG[..., None]
    values = dequantize(quantize(W_RGS, *grid, "ternary"), *grid)
    levels = torch.stack([-scale_RG, torch.zeros_like(scale_RG), scale_RG], -1)
    assert (values[..., None] == levels[:, :, None, :]).any(-1).all()
    nearest = levels.gather(-1, (W_RGS[..., None] - levels[:, :, None, :]).abs().argmin(-1))
    assert torch.equal(values, nearest)
    if not search:
        torch.testing.assert_close(scale_RG, W_RGS.abs().amax(-1), rtol=5e-3, atol=0)


@widths
@searches
def test_grid_with_a_minimum_holds_what_two_float16_numbers_say_to_the_last_bit(bits: WholeBits, search: bool) -> None:
    W_RGS = random_weights(6, 128, seed=bits).view(6, 4, 32) + 0.7
    scale_RG, zero_RG = fit(W_RGS, bits, symmetric=False, search=search, scale_dtype=torch.float16, offset="minimum")
    stored_scale, stored_minimum = scale_RG.half(), minimum(scale_RG, zero_RG).half()
    grid = scale_RG[..., None], zero_RG[..., None]
    codes = quantize(W_RGS, *grid, bits, "minimum")
    assert float(codes.min()) >= 0 and float(codes.max()) < 2**bits
    values = dequantize(codes, *grid, "minimum")
    assert torch.equal(values, stored_scale.float()[..., None] * codes + stored_minimum.float()[..., None])
    errors = (values - W_RGS).abs() / scale_RG[..., None]
    assert search or float(errors.max()) <= 0.5 + 2**-7  # both ends of a range are rounded to float16


@many
@given(least=st.floats(-6e4, 6e4, width=16), scale=st.floats(2.0**-14, 1e3, width=16))
def test_minimum_comes_back_from_scale_and_zero(least: float, scale: float) -> None:
    scale_t = torch.tensor(scale)
    assert float(minimum(scale_t, -torch.tensor(least) / scale_t)) == least


def test_bfloat16_scales_are_float16_numbers_too() -> None:
    W_RGS = 10.0 ** torch.linspace(-12, 2, 64).view(64, 1, 1) * torch.tensor([-1.0, 0.3, 1.0])
    scale_RG, _ = fit(W_RGS, 4, symmetric=True, search=False, scale_dtype=torch.bfloat16)
    assert torch.equal(scale_RG.half().float(), scale_RG)
    assert torch.equal(scale_RG.bfloat16().float(), scale_RG)
