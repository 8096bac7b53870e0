"""The allocation against every profile there is, and what must hold at sizes where nobody can list them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.goals.knapsack import allocate

LEVELS = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5), min_size=1, max_size=6)
"""Whole costs and errors, with many ties and zeros."""


def best_of_all(costs: list[list[float]], errors: list[list[float]], budget: float) -> tuple[float, float] | None:
    """Least error within the budget, and the least cost that it can be had for."""
    found = [
        (math.fsum(e[s] for e, s in zip(errors, profile, strict=True)), cost)
        for profile in itertools.product(*(range(len(layer)) for layer in costs))
        if (cost := math.fsum(c[s] for c, s in zip(costs, profile, strict=True))) <= budget
    ]
    return min(found, default=None)


def outcome(costs: list[list[float]], errors: list[list[float]], profile: tuple[int, ...]) -> tuple[float, float]:
    return tuple(math.fsum(layer[s] for layer, s in zip(table, profile, strict=True)) for table in (errors, costs))  # type: ignore[return-value]


def tables(layers: list[list[tuple[int, int]]], scale: float = 1.0) -> tuple[list[list[float]], list[list[float]]]:
    return [[scale * c for c, _ in layer] for layer in layers], [[float(e) for _, e in layer] for layer in layers]


@settings(max_examples=500, deadline=None)
@given(LEVELS, st.integers(-1, 50))
def test_whole_costs_give_the_very_optimum_at_the_least_cost(layers: list[list[tuple[int, int]]], budget: int) -> None:
    costs, errors = tables(layers)
    profile, best = allocate(costs, errors, budget), best_of_all(costs, errors, budget)
    assert (profile is None) == (best is None)
    if profile is not None:
        assert outcome(costs, errors, profile) == best


@settings(max_examples=500, deadline=None)
@given(LEVELS, st.floats(0, 5), st.integers(8, 60), st.sampled_from([0.1, 1 / 3, math.pi]))
def test_rounding_never_breaks_the_budget_and_costs_no_more_than_its_bound(
    layers: list[list[tuple[int, int]]], budget: float, buckets: int, scale: float
) -> None:
    costs, errors = tables(layers, scale)
    profile = allocate(costs, errors, budget, buckets)
    feasible = math.fsum(map(min, costs)) <= budget
    assert (profile is not None) == feasible
    if profile is None:
        return
    error, cost = outcome(costs, errors, profile)
    assert cost <= budget
    bound = best_of_all(costs, errors, budget * (1 - len(layers) / buckets))
    assert bound is None or error <= bound[0]


@settings(max_examples=200, deadline=None)
@given(LEVELS, st.lists(st.integers(0, 50), min_size=2, max_size=2), st.randoms(use_true_random=False))
def test_more_budget_more_levels_and_another_order_never_hurt(
    layers: list[list[tuple[int, int]]], budgets: list[int], random: object
) -> None:
    less, more = sorted(budgets)
    costs, errors = tables(layers)
    small, large = allocate(costs, errors, less), allocate(costs, errors, more)
    if small is None:
        return
    assert large is not None
    assert outcome(costs, errors, large)[0] <= outcome(costs, errors, small)[0]
    richer = allocate([[*costs[0], 3], *costs[1:]], [[*errors[0], 1], *errors[1:]], less)
    assert richer is not None
    assert outcome([[*costs[0], 3], *costs[1:]], [[*errors[0], 1], *errors[1:]], richer)[0] <= outcome(costs, errors, small)[0]
    turned = allocate(costs[::-1], errors[::-1], less)
    assert turned is not None
    assert outcome(costs[::-1], errors[::-1], turned) == outcome(costs, errors, small)


def test_bytes_of_a_large_model_are_rounded_up_without_losing_one() -> None:
    costs = [[10**12, 10**12 + 1, 10**12 + 10**9], [0, 10**9, 10**9 + 1]]
    errors = [[5.0, 2.0, 3.0], [5.0, 1.5, 1.0]]
    assert allocate(costs, errors, 10**12 + 10**9, buckets=1000) == (0, 1)
    assert allocate(costs, errors, 10**12 + 10**9 + 1, buckets=1000) == (
        0,
        2,
    )  # exact: one byte more elsewhere is a bucket more
    assert allocate(costs, errors, 10**12 + 10**9 + 10**7, buckets=1000) == (1, 2)


def test_convex_errors_under_linear_costs_are_cut_at_one_slope() -> None:
    """With p convex and t linear the optimum is a threshold on the gain of the next level, as Lagrange has it."""
    random = np.random.default_rng(0)
    layers, levels = 12, 9
    sensitivity = random.uniform(0.1, 5, layers)
    costs = [[float(s) for s in range(levels)] for _ in range(layers)]
    errors = [[float(a * 4.0**-s) for s in range(levels)] for a in sensitivity]
    profile = allocate(costs, errors, 40)
    assert profile is not None
    assert sum(profile) == 40
    last = min(errors[n][s - 1] - errors[n][s] for n, s in enumerate(profile) if s > 0)
    following = max(errors[n][s] - errors[n][s + 1] for n, s in enumerate(profile) if s + 1 < levels)
    assert following <= last


@pytest.mark.parametrize("budget", [0.0, 2.5])
def test_nothing_left_above_the_cheapest_levels_takes_the_best_of_these(budget: float) -> None:
    costs = [[budget, budget, budget + 1], [0.0, 0.0, 0.5]]
    assert allocate(costs, [[3.0, 2.0, 0.0], [4.0, 9.0, 0.0]], budget) == (1, 0)
