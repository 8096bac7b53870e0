"""The choices under a budget: uniform levels beside them, and the smallest budget that is good enough."""

import math

import pytest

from compression.goals.choice import BISECTIONS, Chooser
from compression.goals.costs import CostTable
from compression.goals.goal import SearchOptions
from compression.goals.search import Profile

COSTS = ((2.0, 4.0, 8.0), (1.0, 2.0, 4.0), (2.0, 4.0, 8.0))
HARMS = ((9.0, 3.0, 0.0), (5.0, 2.0, 0.0), (1.0, 0.5, 0.0))
CHOOSER = Chooser(CostTable(("a", "b", "c"), COSTS, 10.0, 30.0), HARMS, ("2 bit", "4 bit", "dense"))


def harm(profile: Profile) -> float:
    return math.fsum(levels[level] for levels, level in zip(HARMS, profile, strict=True))


def test_what_is_fixed_is_paid_for_first() -> None:
    assert CHOOSER.plain(15.0) == (0, 0, 0)
    assert CHOOSER.plain(16.0) == (0, 1, 0)
    assert CHOOSER.plain(30.0) == (2, 2, 2)
    assert CHOOSER.table.total((2, 2, 2)) == 30.0


@pytest.mark.parametrize(("budget", "level"), [(14.0, None), (15.0, 0), (19.9, 0), (20.0, 1), (30.0, 2)])
def test_uniform_level_is_the_best_that_all_can_have(budget: float, level: int | None) -> None:
    assert CHOOSER.uniform(budget) == level


def test_uniform_level_wins_where_it_loses_less_than_all_that_was_searched() -> None:
    def loss_of(profile: Profile) -> float:
        return 0.0 if profile == (1, 1, 1) else 1.0 + harm(profile)

    options = SearchOptions(inits=2, patience=2, max_evaluations=4)
    profile, found = CHOOSER.searched(20.0, options, loss_of, lambda *_: None)
    assert CHOOSER.plain(20.0) != (1, 1, 1)
    assert (profile, found.loss, found.uniform_level, found.uniform_loss) == ((1, 1, 1), 0.0, "4 bit", 0.0)
    assert found.plain_loss == 1.0 + harm(CHOOSER.plain(20.0))


def test_smallest_budget_whose_choice_is_good_is_found_by_halving() -> None:
    budgets: list[float] = []
    for limit in (14.0, 9.0, 4.0, 2.0, 0.5, 0.0):
        found = CHOOSER.least_budget(lambda profile, limit=limit: harm(profile) <= limit, budgets.append)  # type: ignore[misc]
        assert found is not None
        assert harm(CHOOSER.plain(found)) <= limit
        step = (30.0 - 15.0) / 2**BISECTIONS
        assert harm(CHOOSER.plain(max(found - step - 1e-9, 15.0))) > limit or found - step < 15.0
    assert len(budgets) == BISECTIONS * 6
    assert CHOOSER.least_budget(lambda _: True, budgets.append) == 15.0
    assert CHOOSER.least_budget(lambda _: False, budgets.append) is None
