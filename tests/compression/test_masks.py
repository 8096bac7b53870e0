"""Masks keep and drop exactly as many weights as they are told to, whatever the scores."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compression.errors import InvalidOptions
from compression.masks import drop_all_but_n, drop_smallest, keep_largest, keep_largest_per_row, keep_n_of_m, zeros_before
from tests.compression.examples import few, many
from tests.compression.problems import random_weights

sparsities = st.floats(0, 1, exclude_max=True) | st.sampled_from([0.5, 1 / 3, 0.1, 0.7])
sides = st.integers(1, 24)


@st.composite
def tied_scores(draw: st.DrawFn, *, multiple: int = 1) -> Tensor:
    """Scores of three different values, so that ties are the rule."""
    rows, columns = draw(st.integers(1, 6)), multiple * draw(st.integers(1, 6))
    values = draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(values).view(rows, columns)


@many
@given(sparsity=sparsities, rows=sides, cuts=st.lists(st.integers(0, 40), min_size=2, max_size=6))
def test_counts_of_blocks_are_possible_and_add_up_however_columns_are_cut(sparsity: float, rows: int, cuts: list[int]) -> None:
    cuts = sorted({0, *cuts})
    counts = [zeros_before(sparsity, rows, b) - zeros_before(sparsity, rows, a) for a, b in pairwise(cuts)]
    assert all(0 <= count <= rows * (b - a) for count, (a, b) in zip(counts, pairwise(cuts), strict=True))
    assert abs(sum(counts) - sparsity * rows * cuts[-1]) <= 0.5 + 1e-9


@many
@given(scores=tied_scores(), data=st.data())
def test_lowest_scores_go_and_among_ties_the_first(scores: Tensor, data: st.DataObject) -> None:
    pruned = data.draw(st.integers(0, scores.numel()))
    flat = scores.flatten().tolist()
    dropped = set(sorted(range(len(flat)), key=lambda index: (flat[index], index))[:pruned])
    expected = [index not in dropped for index in range(len(flat))]
    assert keep_largest(scores, pruned).flatten().tolist() == expected


@many
@given(scores=tied_scores(), data=st.data())
def test_masks_of_numbers_are_those_of_booleans(scores: Tensor, data: st.DataObject) -> None:
    pruned = data.draw(st.integers(0, scores.numel()))
    drop = drop_smallest(scores, pruned)
    assert torch.equal(drop == 0, keep_largest(scores, pruned))
    assert int(drop.sum()) == pruned


@many
@given(scores=tied_scores(), data=st.data())
def test_masks_of_one_group_of_columns_are_those_of_the_whole_matrix(scores: Tensor, data: st.DataObject) -> None:
    m = scores.shape[1]
    n = data.draw(st.integers(1, m))
    assert torch.equal(drop_all_but_n(scores.T, n).T == 0, keep_n_of_m(scores, n, m))


def test_masks_leave_the_scores_alone() -> None:
    scores = random_weights(4, 8)
    before = scores.clone()
    keep_largest(scores, 7)
    keep_largest_per_row(scores, 0.3)
    keep_n_of_m(scores, 2, 4)
    drop_all_but_n(scores, 2)
    assert torch.equal(scores, before)


def test_scores_of_a_transposed_view_are_read_in_its_own_order() -> None:
    scores = random_weights(6, 4).T
    assert torch.equal(keep_largest(scores, 11), keep_largest(scores.contiguous(), 11))


@many
@given(scores=tied_scores(), sparsity=sparsities)
def test_rows_lose_their_own_lowest_scores_in_equal_numbers(scores: Tensor, sparsity: float) -> None:
    keep_RC = keep_largest_per_row(scores, sparsity)
    pruned = (~keep_RC).sum(1).tolist()
    assert max(pruned) - min(pruned) <= 1
    assert abs(sum(pruned) - sparsity * scores.numel()) <= 0.5 + 1e-9
    for keep_C, score_C, count in zip(keep_RC, scores.tolist(), pruned, strict=True):
        dropped = set(sorted(range(len(score_C)), key=lambda column: (score_C[column], column))[:count])
        assert keep_C.tolist() == [column not in dropped for column in range(len(score_C))]


def test_rows_and_whole_matrix_lose_the_same_number_where_float_products_differ() -> None:
    assert 0.01 * 30 * 35 < 0.01 * 35 * 30
    scores = random_weights(30, 35)
    whole = keep_largest(scores, zeros_before(0.01, *scores.shape))
    assert int(keep_largest_per_row(scores, 0.01).sum()) == int(whole.sum())


@few
@given(data=st.data(), m=st.integers(2, 9))
def test_n_of_m_keeps_exactly_the_n_highest_of_every_group_when_scores_tie(data: st.DataObject, m: int) -> None:
    n = data.draw(st.integers(1, m))
    scores = data.draw(tied_scores(multiple=m))
    groups = keep_n_of_m(scores, n, m).unflatten(1, (-1, m))
    assert (groups.sum(-1) == n).all()
    for keep, score in zip(groups.flatten(0, 1), scores.reshape(-1, m), strict=True):
        assert sorted(score[keep].tolist()) == sorted(score.tolist())[m - n :]


@pytest.mark.parametrize(("n", "m", "columns"), [(0, 4, 8), (5, 4, 8), (2, 4, 6), (1, 16, 8)])
def test_pattern_that_does_not_tile_the_columns_is_refused(n: int, m: int, columns: int) -> None:
    with pytest.raises(InvalidOptions, match=f"{n}:{m} does not tile {columns} columns"):
        keep_n_of_m(torch.ones(2, columns), n, m)
