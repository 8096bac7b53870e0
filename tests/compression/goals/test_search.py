"""The coefficient search: never worse than without weights, seeded, and every profile judged once."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from compression.goals.knapsack import allocate
from compression.goals.search import Profile, Step, search

LAYERS, LEVELS, BUDGET = 12, 4, 18
COSTS = [[float(s) for s in range(LEVELS)] for _ in range(LAYERS)]
ERRORS = [[(1 - s / (LEVELS - 1)) ** 2 for s in range(LEVELS)] for _ in range(LAYERS)]
TRUTH = np.random.default_rng(3).lognormal(0, 2, LAYERS)  # how much each layer matters, which the errors do not tell


def allocate_with(weights: Sequence[float]) -> Profile:
    profile = allocate(COSTS, [[w * e for e in layer] for w, layer in zip(weights, ERRORS, strict=True)], BUDGET)
    assert profile is not None
    return profile


def true_loss(profile: Profile) -> float:
    return float(sum(t * layer[s] for t, layer, s in zip(TRUTH, ERRORS, profile, strict=True)))


def counting(calls: list[Profile]) -> Callable[[Profile], float]:
    def loss_of(profile: Profile) -> float:
        calls.append(profile)
        return true_loss(profile)

    return loss_of


def test_search_learns_what_layers_matter_and_keeps_the_budget() -> None:
    found = search(allocate_with, true_loss, LAYERS, inits=30, patience=30)
    best = true_loss(allocate_with(list(TRUTH)))
    assert found.plain_loss == true_loss(allocate_with([1.0] * LAYERS))
    assert best <= found.loss < 0.5 * found.plain_loss
    assert found.loss == true_loss(found.profile)
    assert sum(found.profile) <= BUDGET


def test_best_loss_only_falls_and_every_profile_is_judged_once() -> None:
    calls: list[Profile] = []
    steps: list[Step] = []
    found = search(allocate_with, counting(calls), LAYERS, inits=30, patience=10, on_best=steps.append)
    assert len(calls) == len(set(calls)) == found.evaluations < found.candidates
    assert [step.loss for step in found.curve] == sorted((step.loss for step in found.curve), reverse=True)
    assert found.curve == tuple(steps)
    assert [min(map(true_loss, calls[: step.evaluation])) for step in found.curve] == [step.loss for step in found.curve]


def test_same_seed_gives_the_same_search_and_another_one_another() -> None:
    found = [search(allocate_with, true_loss, LAYERS, inits=5, patience=5, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("most", [1, 7])
def test_no_more_losses_are_computed_than_allowed(most: int) -> None:
    calls: list[Profile] = []
    found = search(allocate_with, counting(calls), LAYERS, max_evaluations=most)
    assert len(calls) == found.evaluations == most
    assert found.loss <= found.plain_loss


def test_one_layer_is_searched_too() -> None:
    found = search(lambda _: (1,), lambda _: 2.0, 1, inits=3, patience=2)
    assert (found.profile, found.loss, found.evaluations, found.candidates) == ((1,), 2.0, 1, 6)


def test_a_search_may_begin_where_another_has_ended() -> None:
    first = search(allocate_with, true_loss, LAYERS, inits=30, patience=30)
    assert allocate_with(first.weights) == first.profile
    again = search(allocate_with, true_loss, LAYERS, start=first.weights, max_evaluations=2)
    assert (again.profile, again.weights, again.evaluations) == (first.profile, first.weights, 2)
    assert search(allocate_with, true_loss, LAYERS, start=first.weights, max_evaluations=1).loss == first.plain_loss
