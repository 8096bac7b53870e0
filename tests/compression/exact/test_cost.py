"""The estimate, against counting the operations of every step."""

import pytest

from compression.exact import cost


def counted(columns: int, start: int, removals: int) -> float:
    """2 F^2 for each removal while F inputs are left."""
    return sum(2.0 * (start - step) ** 2 for step in range(removals))


@pytest.mark.parametrize("columns", [64, 1000])
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.95])
def test_pruning_is_counted_step_by_step(columns: int, sparsity: float) -> None:
    traced = min(columns, round(columns * (sparsity + 0.125)))
    flops = counted(columns, columns, traced) + (columns * (1 - sparsity)) ** 3 / 3
    found = cost.obc_seconds(10, columns, sparsity=sparsity, quantizes=False)
    assert found == pytest.approx(10 * flops / cost.FLOPS_PER_SECOND, rel=0.05)


def test_rounding_is_counted_step_by_step() -> None:
    found = cost.obc_seconds(10, 1000, sparsity=None, quantizes=True)
    assert found == pytest.approx(10 * counted(1000, 1000, 1000) / cost.FLOPS_PER_SECOND, rel=0.05)
    assert cost.obc_seconds(10, 1000, sparsity=0, quantizes=True) == found


def test_pruning_and_rounding_cost_more_than_pruning_and_nothing_costs_nothing() -> None:
    pruning = cost.obc_seconds(10, 1000, sparsity=0.5, quantizes=False)
    assert pruning < cost.obc_seconds(10, 1000, sparsity=0.5, quantizes=True) < 2 * pruning
    assert cost.obc_seconds(10, 1000, sparsity=0, quantizes=False) == 0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (119, "119 s"), (121, "2 min"), (3600, "60 min"), (86400, "24 h")]
)
def test_durations_are_read_at_a_glance(seconds: float, words: str) -> None:
    assert cost.in_words(seconds) == words
