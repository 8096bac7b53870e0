"""The blocked sweep against the OBS formula with explicit inverses, and against the identities that hold for any sweep.

All of it in float64, where the two ways may differ by rounding only: tolerances are 1e-9 of numbers around one.
"""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compression.obs import blocks, sweep
from compression.options import WholeBits
from compression.pruners import NmPruner, Pruner, UnstructuredPruner
from compression.rounder import Rounder
from compression.weights import GridWeights
from tests.compression import brute_force
from tests.compression.examples import few, many
from tests.compression.problems import correlated_inputs, hessian_of, random_weights, seeded

ROWS, COLUMNS = 5, 24


class FixedMask:
    """Prunes what it was told to, whatever the weights."""

    align = 1

    def __init__(self, keep_RC: Tensor) -> None:
        self._keep_RC = keep_RC

    def enter_block(self, W_CR: Tensor, first: int, last: int) -> None:
        """The mask is fixed."""

    def drop(self, W_CR: Tensor, column: int) -> Tensor:
        return (~self._keep_RC[:, column]).to(W_CR.dtype)

    def leave_block(self) -> None:
        """The mask is fixed."""


def problem(rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, damped Hessian and its factor, in float64."""
    H_CC = brute_force.damped(hessian_of(correlated_inputs(4 * columns + 8, columns, seed).double()).H_CC, 0.01)
    return random_weights(rows, columns, seed).double(), H_CC, brute_force.upper_factor(H_CC)


def random_mask(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, columns, generator=seeded(seed + 7)) < 0.5


def rounder(W_RC: Tensor, bits: WholeBits, group_size: int, *, is_static: bool, order_C: Tensor | None = None) -> Rounder:
    """Asymmetric minmax grids, fitted by loops where they are static."""
    rows, columns = W_RC.shape
    group_C = torch.arange(columns, dtype=torch.int32) // group_size
    fitted = None
    if is_static:
        grids = [[brute_force.grid(part_S, bits) for part_S in w_C.split(group_size)] for w_C in W_RC]
        fitted = (
            torch.tensor([[scale for scale, _ in row] for row in grids], dtype=torch.float64),
            torch.tensor([[float(zero) for _, zero in row] for row in grids], dtype=torch.float64),
        )
    visited_C = group_C if order_C is None else group_C[order_C]
    return Rounder(rows, visited_C, bits, symmetric=False, search=False, scale_dtype=torch.float32, fitted=fitted)


def loss(D_RC: Tensor, H_CC: Tensor) -> float:
    return float(((D_RC @ H_CC) * D_RC).sum())


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(ROWS, COLUMNS), (1, 9), (3, 1), (1, 1)])
def test_sweep_with_a_mask_is_the_obs_formula_column_by_column(rows: int, columns: int) -> None:
    W_RC, H_CC, U_CC = problem(rows, columns)
    keep_RC = random_mask(rows, columns)
    found = sweep(W_RC, U_CC, pruner=FixedMask(keep_RC), rounder=None, block_size=5).W_RC
    assert_same(found, brute_force.obs(W_RC, H_CC, brute_force.masked(keep_RC)))
    assert not found[~keep_RC].any()


@pytest.mark.parametrize("block_size", [1, 2, 7, 8, 23, 24, 128])
def test_block_size_does_not_matter_when_the_mask_is_given(block_size: int) -> None:
    W_RC, _, U_CC = problem()
    keep_RC = random_mask(ROWS, COLUMNS)
    whole = sweep(W_RC, U_CC, pruner=FixedMask(keep_RC), rounder=None, block_size=COLUMNS)
    cut = sweep(W_RC, U_CC, pruner=FixedMask(keep_RC), rounder=None, block_size=block_size)
    assert_same(cut.W_RC, whole.W_RC)
    assert cut.squared_error == pytest.approx(whole.squared_error, rel=1e-12)


def test_block_size_changes_float32_results_by_rounding_only() -> None:
    W_RC, _, U_CC = problem(16, 96)
    pruner = FixedMask(random_mask(16, 96))
    results = [
        sweep(W_RC.float(), U_CC.float(), pruner=pruner, rounder=None, block_size=size).W_RC for size in (1, 13, 32, 96)
    ]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=2e-5)  # 96 updates of numbers up to 10, eps 1.2e-7


@pytest.mark.parametrize("rule", ["unstructured", "2:4", "4 bits", "4 bits and 2:4"])
def test_errors_times_factor_are_what_changed_and_their_squares_are_the_loss(rule: str) -> None:
    W_RC, H_CC, U_CC = problem()
    pruner: Pruner | None = None
    if rule == "unstructured":
        pruner = UnstructuredPruner(U_CC, 0.6)
    elif "2:4" in rule:
        pruner = NmPruner(U_CC, 2, 4)
    rounding = rounder(W_RC, 4, 8, is_static=True) if "bits" in rule else None
    result = sweep(W_RC, U_CC, pruner=pruner, rounder=rounding, block_size=8)
    D_RC = W_RC - result.W_RC
    E_RC = torch.linalg.solve(U_CC.T, D_RC.T).T  # the one E with D = E U
    assert float(E_RC.square().sum()) > 0.1
    assert result.squared_error == pytest.approx(float(E_RC.square().sum()), rel=1e-9)
    assert result.squared_error == pytest.approx(loss(D_RC, H_CC), rel=1e-9)


def test_errors_are_zero_in_columns_where_all_weights_stay() -> None:
    W_RC, _, U_CC = problem()
    keep_RC = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    keep_RC[2, 5] = keep_RC[4, 17] = False
    result = sweep(W_RC, U_CC, pruner=FixedMask(keep_RC), rounder=None, block_size=8)
    E_RC = torch.linalg.solve(U_CC.T, (W_RC - result.W_RC).T).T
    assert {tuple(place) for place in (E_RC.abs() > 1e-9).nonzero().tolist()} == {(2, 5), (4, 17)}
    assert torch.equal(result.W_RC[[0, 1, 3]], W_RC[[0, 1, 3]])
    assert torch.equal(result.W_RC[2, :5], W_RC[2, :5])


def test_without_a_decision_nothing_changes() -> None:
    W_RC, _, U_CC = problem()
    result = sweep(W_RC, U_CC, pruner=UnstructuredPruner(U_CC, 0.0), rounder=None, block_size=8)
    assert torch.equal(result.W_RC, W_RC)
    assert result.squared_error == 0


def test_removing_the_first_weight_of_a_row_is_optimal() -> None:
    W_RC, H_CC, U_CC = problem()
    keep_RC = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    keep_RC[:, 0] = False
    found = sweep(W_RC, U_CC, pruner=FixedMask(keep_RC), rounder=None, block_size=8).W_RC
    inverse = torch.linalg.inv(H_CC)
    assert_same(found, W_RC - W_RC[:, :1] / inverse[0, 0] * inverse[0])


def test_removing_the_last_weight_of_a_row_is_plain_zeroing() -> None:
    W_RC, _, U_CC = problem()
    keep_RC = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    keep_RC[:, -1] = False
    found = sweep(W_RC, U_CC, pruner=FixedMask(keep_RC), rounder=None, block_size=8).W_RC
    assert torch.equal(found, torch.where(keep_RC, W_RC, 0))


def least_squares(W_RC: Tensor, H_CC: Tensor, keep_RC: Tensor) -> Tensor:
    """The best weights under a mask: H_KK w_K = (H w)_K in each row."""
    best_RC = torch.zeros_like(W_RC)
    for row, keep_C in enumerate(keep_RC):
        best_RC[row, keep_C] = torch.linalg.solve(H_CC[keep_C][:, keep_C], (H_CC @ W_RC[row])[keep_C])
    return best_RC


@pytest.mark.parametrize("seed", range(5))
def test_sweep_is_never_better_than_masked_least_squares_and_better_than_no_update(seed: int) -> None:
    W_RC, H_CC, U_CC = problem(seed=seed)
    keep_RC = random_mask(ROWS, COLUMNS, seed)
    found = loss(W_RC - sweep(W_RC, U_CC, pruner=FixedMask(keep_RC), rounder=None, block_size=8).W_RC, H_CC)
    assert loss(W_RC - least_squares(W_RC, H_CC, keep_RC), H_CC) * 1.01 < found
    assert found < 0.8 * loss(W_RC * ~keep_RC, H_CC)


def test_sweep_is_masked_least_squares_when_all_pruned_columns_come_first() -> None:
    W_RC, H_CC, U_CC = problem()
    keep_RC = torch.arange(COLUMNS).expand(ROWS, COLUMNS) >= torch.tensor([0, 3, 8, 11, 23])[:, None]
    found = sweep(W_RC, U_CC, pruner=FixedMask(keep_RC), rounder=None, block_size=8).W_RC
    assert_same(found, least_squares(W_RC, H_CC, keep_RC))


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("block_size", [1, 5, 8, 24])
def test_unstructured_masks_are_those_of_explicit_removal_costs(sparsity: float, block_size: int) -> None:
    W_RC, H_CC, U_CC = problem()
    found = sweep(W_RC, U_CC, pruner=UnstructuredPruner(U_CC, sparsity), rounder=None, block_size=block_size).W_RC
    assert_same(found, brute_force.obs(W_RC, H_CC, brute_force.blockwise(H_CC, sparsity, block_size)))
    assert int((found == 0).sum()) == round(sparsity * ROWS * COLUMNS)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (1, 2), (2, 3), (5, 6)])
@pytest.mark.parametrize("block_size", [8, 9, 128])
def test_n_of_m_masks_are_those_of_explicit_removal_costs(n: int, m: int, block_size: int) -> None:
    W_RC, H_CC, U_CC = problem()
    found = sweep(W_RC, U_CC, pruner=NmPruner(U_CC, n, m), rounder=None, block_size=block_size).W_RC
    assert_same(found, brute_force.obs(W_RC, H_CC, brute_force.groupwise(H_CC, n, m)))
    assert ((found != 0).unflatten(1, (-1, m)).sum(-1) == n).all()


@pytest.mark.parametrize("group_size", [3, 8, 12, 24])
@pytest.mark.parametrize("block_size", [1, 5, 8, 128])
@pytest.mark.parametrize("is_static", [True, False], ids=["static groups", "dynamic groups"])
def test_rounding_is_a_naive_loop_with_grids_of_current_weights(group_size: int, block_size: int, is_static: bool) -> None:
    W_RC, H_CC, U_CC = problem()
    rule = rounder(W_RC, 3, group_size, is_static=is_static)
    result = sweep(W_RC, U_CC, pruner=None, rounder=rule, block_size=block_size)
    decide = brute_force.rounded(W_RC, 3, group_size, dynamic=not is_static)
    # Grids fitted on the way hold float32 scales, the loop's are float64: 1e-7 relative, grown by 24 updates.
    torch.testing.assert_close(result.W_RC, brute_force.obs(W_RC, H_CC, decide), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("is_static", [True, False], ids=["static groups", "dynamic groups"])
def test_codes_and_grids_of_a_sweep_are_its_weights_to_the_last_bit(is_static: bool) -> None:
    W_RC, _, U_CC = problem()
    rule = rounder(W_RC, 3, 8, is_static=is_static)
    result = sweep(W_RC, U_CC, pruner=UnstructuredPruner(U_CC, 0.5), rounder=rule, block_size=10)
    group_C = torch.arange(COLUMNS, dtype=torch.int32) // 8
    stored = GridWeights(rule.codes_CR.T, rule.scale_RG.double(), rule.zero_RG.double(), group_C, 3)
    assert torch.equal(stored.to_dense(), result.W_RC)


def test_columns_may_be_visited_in_any_order_with_static_groups() -> None:
    W_RC, H_CC, _ = problem()
    order_C = torch.randperm(COLUMNS, generator=seeded(3))
    visited_CC = H_CC[order_C][:, order_C]
    rule = rounder(W_RC, 3, 8, is_static=True, order_C=order_C)
    found = sweep(W_RC[:, order_C], brute_force.upper_factor(visited_CC), pruner=None, rounder=rule, block_size=8).W_RC
    in_storage_order = brute_force.rounded(W_RC, 3, 8)

    def decide(current_RC: Tensor, place: int) -> Tensor:
        column = int(order_C[place])
        return in_storage_order(W_RC.index_copy(1, torch.tensor([column]), current_RC[:, [place]]), column)

    assert_same(found, brute_force.obs(W_RC[:, order_C], visited_CC, decide))


def test_pruned_weights_stay_zero_when_the_rest_is_rounded() -> None:
    W_RC, H_CC, U_CC = problem()
    rule = rounder(W_RC, 4, 8, is_static=True)
    found = sweep(W_RC, U_CC, pruner=NmPruner(U_CC, 2, 4), rounder=rule, block_size=8).W_RC
    prune, snap = brute_force.groupwise(H_CC, 2, 4), brute_force.rounded(W_RC, 4, 8)
    assert_same(found, brute_force.obs(W_RC, H_CC, brute_force.then(prune, snap)))
    assert ((found != 0).unflatten(1, (-1, 4)).sum(-1) <= 2).all()


@pytest.mark.parametrize(("rows", "columns"), [(ROWS, COLUMNS), (1, 8), (8, 1)])
def test_sweep_leaves_its_inputs_alone(rows: int, columns: int) -> None:
    W_RC, _, U_CC = problem(rows, columns)
    before = W_RC.clone(), U_CC.clone()
    sweep(W_RC, U_CC, pruner=UnstructuredPruner(U_CC, 0.9), rounder=None, block_size=4)
    assert torch.equal(W_RC, before[0]) and torch.equal(U_CC, before[1])


def test_layout_of_the_weights_in_memory_does_not_matter() -> None:
    W_RC, _, U_CC = problem()
    stored_otherwise = W_RC.T.contiguous().T
    plain, other = (
        sweep(W, U_CC, pruner=UnstructuredPruner(U_CC, 0.5), rounder=None, block_size=8).W_RC for W in (W_RC, stored_otherwise)
    )
    assert torch.equal(plain, other)
    assert torch.equal(stored_otherwise, W_RC)


@many
@given(columns=st.integers(1, 200), block_size=st.integers(1, 130), group_size=st.integers(1, 200), m=st.integers(0, 32))
def test_blocks_tile_the_columns_and_respect_groups(columns: int, block_size: int, group_size: int, m: int) -> None:
    if m and (group_size % m or m > block_size):  # what recipes refuse
        m = 1
    cut = list(blocks(0, columns, block_size, [group_size, *([m] if m else [])]))
    assert [first for first, _ in cut] == [0, *(last for _, last in cut[:-1])]
    assert cut[-1][1] == columns
    assert all(0 < last - first <= block_size for first, last in cut)
    starts = {first for first, _ in cut}
    for first, last in cut:
        for start in range(0, columns, group_size):  # whole groups, or a part of one that began with a block
            assert not (start < first < start + group_size) or start in starts
            assert not (start < last < min(start + group_size, columns)) or start in starts
        assert m == 0 or first % m == 0


@few
@given(block_size=st.integers(1, 70), group_size=st.sampled_from([16, 32, 48]), seed=st.integers(0, 9))
def test_dynamic_grids_see_all_earlier_updates_at_any_block_size(block_size: int, group_size: int, seed: int) -> None:
    W_RC, _, U_CC = problem(3, 96, seed)
    cut, by_column = (
        sweep(W_RC, U_CC, pruner=None, rounder=rounder(W_RC, 4, group_size, is_static=False), block_size=size).W_RC
        for size in (block_size, 1)
    )
    torch.testing.assert_close(cut, by_column, rtol=1e-5, atol=1e-5)  # float32 scales


def test_loss_of_the_best_order_of_a_tiny_row_bounds_the_sweep() -> None:
    W_RC, H_CC, U_CC = problem(1, 6)
    pruned = sweep(W_RC, U_CC, pruner=UnstructuredPruner(U_CC, 0.5), rounder=None, block_size=6).W_RC
    found = loss(W_RC - pruned, H_CC)
    losses = []
    for kept in itertools.combinations(range(6), 3):
        keep_RC = torch.zeros(1, 6, dtype=torch.bool)
        keep_RC[0, list(kept)] = True
        losses.append(loss(W_RC - least_squares(W_RC, H_CC, keep_RC), H_CC))
    assert min(losses) <= found * (1 + 1e-12)
    assert found < sorted(losses)[len(losses) // 2], "worse than half of all masks"
