"""Inverses that inputs leave one after the other, against inverses computed anew."""

import pytest
import torch

from compression.exact.elimination import Elimination, row_batches
from tests.compression.exact.problems import least_squares, problem
from tests.compression.problems import seeded


def random_orders(rows: int, blocks: int) -> list[list[int]]:
    return [torch.randperm(blocks, generator=seeded(row)).tolist() for row in range(rows)]


@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("removals", [0, 1, 5, 15])
def test_removing_blocks_leaves_the_inverse_of_what_is_left_and_the_best_weights(size: int, removals: int) -> None:
    rows, blocks = 3, 20
    columns = blocks * size
    given = problem(rows, columns)
    orders, W_RF = random_orders(rows, blocks), given.W_RC.clone()
    state = Elimination(given.B_CC.expand(rows, -1, -1), torch.arange(columns).expand(rows, -1), size)
    for step in range(removals):
        block_R = torch.tensor([order[step] for order in orders])
        off_RS = torch.stack([W_RF[row].unflatten(0, (-1, size))[block] for row, block in enumerate(block_R.tolist())])
        state.remove(block_R, off_RS, W_RF)
    costs_RG, stay_RF = state.costs(W_RF), state.cut()
    for row, order in enumerate(orders):
        gone = [block * size + place for block in order[:removals] for place in range(size)]
        left = [column for column in range(columns) if column not in gone]
        assert state.columns_RF[row].tolist() == stay_RF[row].tolist() == left
        inverse = torch.linalg.inv(given.H_CC[left][:, left])
        torch.testing.assert_close(state.B_RFF[row], inverse, rtol=1e-9, atol=1e-9)
        best_C = least_squares(given.W_RC[row], given.H_CC, dict.fromkeys(gone, 0.0))
        torch.testing.assert_close(W_RF[row], best_C, rtol=1e-9, atol=1e-9)
        for block in range(blocks):
            if block in order[:removals]:
                assert costs_RG[row, block] == torch.inf
                continue
            places = [left.index(block * size + place) for place in range(size)]
            w_S = best_C[block * size : block * size + size]
            expected = w_S @ torch.linalg.inv(inverse[places][:, places]) @ w_S
            assert float(costs_RG[row, block]) == pytest.approx(float(expected), rel=1e-8)


def test_inverse_of_an_ill_conditioned_hessian_does_not_drift_over_many_removals_and_cuts() -> None:
    columns, removals = 240, 200
    given = problem(1, columns, damp=1e-5, rho=0.999)
    assert float(torch.linalg.cond(given.H_CC)) > 1e6
    W_RF, order = given.W_RC.clone(), random_orders(1, columns)[0]
    state, cuts = Elimination(given.B_CC[None], torch.arange(columns)[None]), 0
    for column in order[:removals]:
        if state.is_full:
            W_RF, cuts = W_RF.gather(1, state.cut()), cuts + 1
        place_R = (state.columns_RF == column).int().argmax(1)
        state.remove(place_R, W_RF[:, place_R], W_RF)
    state.cut()
    assert cuts > 5
    left = sorted(order[removals:])
    torch.testing.assert_close(state.B_RFF[0], torch.linalg.inv(given.H_CC[left][:, left]), rtol=1e-8, atol=1e-8)


def test_batches_cover_every_row_once_and_a_wide_row_still_has_one() -> None:
    assert [row for batch in row_batches(1000, 576) for row in range(1000)[batch]] == list(range(1000))
    assert [batch.stop - batch.start for batch in row_batches(3, 100_000)] == [1, 1, 1]
