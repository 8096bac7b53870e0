"""ExactOBS against trying every weight at every step, and the choice across rows against a heap."""

import heapq

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compression.exact.pruning import exact_mask, exact_nm_mask, greedy_trace, keep_mask, select
from compression.exact.refit import refit
from compression.obs import sweep
from tests.compression import brute_force
from tests.compression.exact.problems import Problem, least_squares, problem, row_loss
from tests.compression.examples import many
from tests.compression.problems import seeded
from tests.compression.test_obs import FixedMask


def greedy(
    w_C: Tensor, H_CC: Tensor, steps: int, size: int = 1, nm: tuple[int, int] | None = None
) -> tuple[list[int], list[float]]:
    """Blocks in the order in which a row gives them up, and the loss after each: every candidate is tried at every step."""
    n, m = nm or (0, len(w_C))
    order: list[int] = []
    losses: list[float] = []
    for _ in range(steps):
        tried = {}
        for block in range(len(w_C) // size):
            lost = sum(gone * size // m == block * size // m for gone in order)
            if block in order or (nm and lost == m - n):
                continue
            zeros = [b * size + place for b in (*order, block) for place in range(size)]
            tried[block] = row_loss(w_C, H_CC, least_squares(w_C, H_CC, dict.fromkeys(zeros, 0.0)))
        order.append(min(tried, key=lambda block: tried[block]))
        losses.append(tried[order[-1]])
    return order, losses


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("columns", "steps", "size", "nm"),
    [
        (10, 10, 1, None),
        (12, 3, 4, None),
        (12, 6, 2, None),
        (12, 6, 1, (2, 4)),
        (12, 9, 1, (1, 4)),
        (8, 2, 1, (3, 4)),
        (1, 1, 1, None),
    ],
    ids=str,
)
def test_every_step_is_the_best_of_all_weights_tried(
    columns: int, steps: int, size: int, nm: tuple[int, int] | None, seed: int
) -> None:
    found_in = problem(3, columns, seed)
    trace = greedy_trace(found_in.W_RC, found_in.B_CC, steps, size=size, nm=nm)
    for row in range(3):
        order, losses = greedy(found_in.W_RC[row], found_in.H_CC, steps, size, nm)
        assert trace.order_RK[row].tolist() == order
        assert trace.cost_RK[row].cumsum(0).tolist() == pytest.approx(losses, rel=1e-8)


@pytest.mark.parametrize("columns", [64, 200])
def test_costs_of_a_prefix_sum_to_its_loss_and_its_weights_are_the_best_on_its_mask(columns: int) -> None:
    solved = problem(4, columns)
    trace = greedy_trace(solved.W_RC, solved.B_CC, columns)
    for prefix in (1, columns // 3, columns // 2, columns - 1, columns):
        keep_RC = keep_mask(trace.order_RK, torch.full((4,), prefix), columns)
        W_RC = refit(solved.W_RC, solved.H_CC, keep_RC)
        assert int((~keep_RC).sum()) == 4 * prefix
        assert solved.loss(W_RC) == pytest.approx(float(trace.cost_RK[:, :prefix].sum()), rel=1e-8)


def test_refit_is_group_obs_and_masked_least_squares_and_never_touches_a_whole_row() -> None:
    solved = problem(5, 24)
    keep_RC = torch.rand(5, 24, generator=seeded(3)) < 0.6
    keep_RC[2], keep_RC[4] = True, False
    W_RC = refit(solved.W_RC, solved.H_CC, keep_RC)
    assert torch.equal(W_RC == 0, ~keep_RC)
    assert torch.equal(W_RC[2], solved.W_RC[2])
    for row in range(5):
        gone = (~keep_RC[row]).nonzero()[:, 0].tolist()
        w_C = solved.W_RC[row]
        torch.testing.assert_close(W_RC[row], least_squares(w_C, solved.H_CC, dict.fromkeys(gone, 0.0)), rtol=1e-9, atol=1e-9)
        if gone:
            obs_C = w_C - solved.B_CC[:, gone] @ torch.linalg.inv(solved.B_CC[gone][:, gone]) @ w_C[gone]
            torch.testing.assert_close(W_RC[row], obs_C, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "random"])
def test_exact_updates_lose_no_more_than_sparsegpt_on_the_same_mask(pattern: str, seed: int) -> None:
    solved = problem(6, 32, seed)
    keep_RC = torch.rand(6, 32, generator=seeded(seed)) < 0.5
    if pattern == "unstructured":
        keep_RC = exact_mask(solved.W_RC, solved.B_CC, 0.5)
    elif pattern == "2:4":
        keep_RC = exact_nm_mask(solved.W_RC, solved.B_CC, 2, 4)
    restricted = sweep(
        solved.W_RC, brute_force.upper_factor(solved.H_CC), pruner=FixedMask(keep_RC), rounder=None, block_size=128
    )
    assert 0 < solved.loss(refit(solved.W_RC, solved.H_CC, keep_RC)) < solved.loss(restricted.W_RC)


# The choice across rows


def by_heap(costs: list[list[float]], count: int) -> list[int]:
    """Rows in a heap, keyed by what their next removal costs."""
    taken = [0] * len(costs)
    heap = [(row[0], index) for index, row in enumerate(costs)]
    heapq.heapify(heap)
    for _ in range(count):
        _, row = heapq.heappop(heap)
        taken[row] += 1
        if taken[row] < len(costs[row]):
            heapq.heappush(heap, (costs[row][taken[row]], row))
    return taken


@many
@given(
    costs=st.integers(1, 6).flatmap(
        lambda length: st.lists(st.lists(st.integers(0, 5), min_size=length, max_size=length), min_size=1, max_size=5)
    ),
    share=st.floats(0, 1),
)
def test_selection_takes_what_a_heap_of_rows_would_pop(costs: list[list[int]], share: float) -> None:
    count = round(share * len(costs) * len(costs[0]))
    found = select(torch.tensor(costs, dtype=torch.float64), count).tolist()
    assert found == by_heap([[float(cost) for cost in row] for row in costs], count)
    assert sum(found) == count


def test_selection_grows_with_the_count_and_is_a_plain_sort_where_costs_rise() -> None:
    cost_RK = torch.rand(5, 12, generator=seeded(1), dtype=torch.float64).cumsum(1)
    ranks = cost_RK.flatten().sort().values
    before = torch.zeros(5, dtype=torch.int64)
    for count in range(1, 61):
        found = select(cost_RK, count)
        assert (found >= before).all()
        assert torch.equal(found, (cost_RK <= ranks[count - 1]).sum(1))
        before = found


def in_full(solved: Problem, count: int, size: int) -> Tensor:
    """Whole traces of all rows, then the heap."""
    blocks = solved.W_RC.shape[1] // size
    trace = greedy_trace(solved.W_RC, solved.B_CC, blocks, size=size)
    taken = by_heap(trace.cost_RK.tolist(), count)
    return keep_mask(trace.order_RK, torch.tensor(taken), solved.W_RC.shape[1], size)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("sparsity", [0, 0.01, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("is_uneven", [False, True], ids=["like rows", "rows of all sizes"])
def test_mask_is_that_of_whole_traces_and_a_heap_in_exact_number(size: int, sparsity: float, is_uneven: bool) -> None:
    solved = problem(6, 48)
    if is_uneven:  # some rows lose everything, others nothing: far from the mean depth of a trace
        solved = Problem(solved.W_RC * 10.0 ** torch.arange(-3, 3)[:, None], solved.H_CC, solved.B_CC)
    count = round(sparsity * 6 * (48 // size))
    keep_RC = exact_mask(solved.W_RC, solved.B_CC, sparsity, size)
    assert torch.equal(keep_RC, in_full(solved, count, size))
    assert int((~keep_RC).sum()) == count * size
    assert set(keep_RC.unflatten(1, (-1, size)).sum(-1).flatten().tolist()) <= {0, size}


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_ties_go_in_storage_order(value: float) -> None:
    W_RC, B_CC = torch.full((3, 8), value, dtype=torch.float64), torch.eye(8, dtype=torch.float64)
    assert exact_mask(W_RC, B_CC, 0.5).flatten().tolist() == [False] * 12 + [True] * 12
    assert exact_nm_mask(W_RC, B_CC, 2, 4).flatten().tolist() == [False, False, True, True] * 6


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (1, 2), (4, 8), (1, 16)])
def test_every_group_keeps_exactly_n(n: int, m: int) -> None:
    solved = problem(5, 96)
    keep_RC = exact_nm_mask(solved.W_RC, solved.B_CC, n, m)
    assert (keep_RC.unflatten(1, (-1, m)).sum(-1) == n).all()


def test_rows_do_not_depend_on_each_other_where_counts_are_per_row() -> None:
    solved = problem(6, 40)
    whole = exact_nm_mask(solved.W_RC, solved.B_CC, 2, 4)
    for some in ([0], [2, 4], [5, 1, 3]):
        assert torch.equal(exact_nm_mask(solved.W_RC[some], solved.B_CC, 2, 4), whole[some])
