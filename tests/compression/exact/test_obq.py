"""OBQ against a naive loop with inverses computed anew, and the identities of the specification."""

import pytest
import torch
from torch import Tensor

from compression import grids
from compression.exact.elimination import Elimination
from compression.exact.obq import PlaceGrids, round_greedily
from compression.exact.pruning import exact_mask
from compression.exact.refit import refit
from compression.obs import sweep
from compression.options import Bits, Offset, WholeBits, top_code
from compression.rounder import Rounder
from tests.compression import brute_force
from tests.compression.exact.problems import Problem, least_squares, problem


def by_row(W_RC: Tensor, bits: WholeBits) -> PlaceGrids:
    """One minmax grid a row, fitted by loops."""
    fitted = [brute_force.grid(w_C, bits) for w_C in W_RC]
    scale_RC, zero_RC = (torch.tensor([[float(pair[i])] for pair in fitted], dtype=torch.float64) for i in (0, 1))
    return PlaceGrids(scale_RC.expand_as(W_RC), zero_RC.expand_as(W_RC), bits)


def naive(w_C: Tensor, H_CC: Tensor, scale: float, zero: int, bits: int, fixed: dict[int, float]) -> tuple[Tensor, int]:
    """One row: fix a weight at its grid value, solve for the others from the start, and again. Also: outliers met."""
    fixed, outliers = dict(fixed), 0
    current_C = least_squares(w_C, H_CC, fixed)
    while len(fixed) < len(w_C):
        free = [column for column in range(len(w_C)) if column not in fixed]
        inverse = torch.linalg.inv(H_CC[free][:, free])
        value = {c: brute_force.nearest(float(current_C[c]), scale, zero, bits) for c in free}
        error = {c: abs(float(current_C[c]) - value[c]) for c in free}
        chosen = min(free, key=lambda c: error[c] ** 2 / float(inverse[free.index(c), free.index(c)]))
        if max(error.values()) > scale / 2 * (1 + 1e-9):
            chosen, outliers = max(free, key=lambda c: error[c]), outliers + 1
        fixed[chosen] = value[chosen]
        current_C = least_squares(w_C, H_CC, fixed)
    return current_C, outliers


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_codes_are_those_of_the_naive_loop_outliers_first(bits: WholeBits) -> None:
    met = 0
    for seed in range(4):
        given = problem(4, 10, seed)
        places = by_row(given.W_RC, bits)
        found_RC = places.values(round_greedily(given.W_RC, given.H_CC, given.B_CC, None, places))
        for row in range(4):
            scale, zero = brute_force.grid(given.W_RC[row], bits)
            expected_C, outliers = naive(given.W_RC[row], given.H_CC, scale, zero, bits, {})
            torch.testing.assert_close(found_RC[row], expected_C, rtol=1e-9, atol=1e-9)
            met += outliers
    assert met > 0  # else the rule would not have been tried


def test_cuts_change_nothing() -> None:
    given = problem(2, 70)  # cut after 16 steps and again
    places = by_row(given.W_RC, 3)
    found_RC = places.values(round_greedily(given.W_RC, given.H_CC, given.B_CC, None, places))
    for row in range(2):
        expected_C, _ = naive(given.W_RC[row], given.H_CC, *brute_force.grid(given.W_RC[row], 3), 3, {})
        torch.testing.assert_close(found_RC[row], expected_C, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_pruned_weights_stay_zero_and_are_no_longer_part_of_their_row(seed: int) -> None:
    given = problem(4, 12, seed)
    keep_RC = exact_mask(given.W_RC, given.B_CC, 0.5)
    assert len(set(keep_RC.sum(1).tolist())) > 1  # so that some rows are padded
    pruned_RC = refit(given.W_RC, given.H_CC, keep_RC)
    places = by_row(pruned_RC, 4)
    codes_RC = round_greedily(pruned_RC, given.H_CC, given.B_CC, keep_RC, places)
    assert torch.equal(codes_RC[~keep_RC], places.zero_RF[~keep_RC])
    for row in range(4):
        gone = (~keep_RC[row]).nonzero()[:, 0].tolist()
        scale, zero = brute_force.grid(pruned_RC[row], 4)
        expected_C, _ = naive(pruned_RC[row], given.H_CC, scale, zero, 4, dict.fromkeys(gone, 0.0))
        torch.testing.assert_close(places.values(codes_RC)[row], expected_C, rtol=1e-9, atol=1e-9)


def test_nothing_pruned_is_the_same_whether_said_or_not() -> None:
    given = problem(3, 40)
    places = by_row(given.W_RC, 4)
    everything = torch.ones_like(given.W_RC, dtype=torch.bool)
    plain, masked = (round_greedily(given.W_RC, given.H_CC, given.B_CC, keep, places) for keep in (None, everything))
    assert torch.equal(plain, masked)


def test_uncorrelated_inputs_make_it_round_to_nearest() -> None:
    W_RC = problem(4, 32).W_RC
    given = Problem(W_RC, 3 * torch.eye(32, dtype=torch.float64), torch.eye(32, dtype=torch.float64) / 3)
    places = by_row(W_RC, 3)
    assert torch.equal(round_greedily(W_RC, given.H_CC, given.B_CC, None, places), places.codes(W_RC))


@pytest.mark.parametrize("seed", range(3))
def test_the_same_downdates_in_storage_order_give_the_codes_of_optq(seed: int) -> None:
    given = problem(4, 40, seed)
    places = by_row(given.W_RC, 3)
    state, W_RF = Elimination(given.B_CC.expand(4, -1, -1), torch.arange(40).expand(4, -1)), given.W_RC.clone()
    codes = []
    for _ in range(40):
        if state.is_full:
            W_RF = W_RF.gather(1, state.cut())
        first_R1 = state.removed_RG.int().argmin(1, keepdim=True)
        here = places.at(state.columns_RF.gather(1, first_R1))
        codes.append(here.codes(W_RF.gather(1, first_R1)))
        state.remove(first_R1[:, 0], W_RF.gather(1, first_R1) - here.values(codes[-1]), W_RF)
    rounder = Rounder(
        4,
        torch.zeros(40, dtype=torch.int32),
        3,
        symmetric=False,
        search=False,
        scale_dtype=torch.float32,
        fitted=(places.scale_RF[:, :1], places.zero_RF[:, :1]),
    )
    sweep(given.W_RC, brute_force.upper_factor(given.H_CC), pruner=None, rounder=rounder, block_size=16)
    assert torch.equal(torch.cat(codes, 1).to(torch.uint8), rounder.codes_CR.T)


@pytest.mark.parametrize(("bits", "offset"), [(4, "minimum"), ("ternary", "zero_point")], ids=["minimum", "ternary"])
def test_every_form_of_grid_is_rounded_to(bits: Bits, offset: Offset) -> None:
    given, symmetric = problem(3, 32), bits == "ternary"
    scale, zero = grids.fit(
        given.W_RC[:, None], bits, symmetric=symmetric, search=False, scale_dtype=torch.float16, offset=offset
    )
    places = PlaceGrids(scale.expand_as(given.W_RC), zero.expand_as(given.W_RC), bits, offset)
    codes_RC = round_greedily(given.W_RC, given.H_CC, given.B_CC, None, places)
    nearest = places.values(places.codes(given.W_RC))
    assert codes_RC.min() >= 0 and codes_RC.max() <= top_code(bits)
    assert given.loss(places.values(codes_RC)) < 0.7 * given.loss(nearest)
