"""From measured errors and a budget to a profile: the allocation, the search, the uniform level beside it, the bisection."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compression.goals.costs import CostTable
from compression.goals.goal import SearchOptions
from compression.goals.knapsack import allocate
from compression.goals.result import CurvePoint, SearchResult
from compression.goals.search import Profile, search

BISECTIONS = 8  # of the budget: its place is then known to 1/256 of the way between the cheapest and the dense model


@dataclass(frozen=True)
class Chooser:
    """The choices under any budget.

    Args:
        harms: rise of the loss that each level of each matrix is expected to bring.
        level_names: for the report.
    """

    table: CostTable
    harms: tuple[tuple[float, ...], ...]
    level_names: tuple[str, ...]

    def plain(self, budget: float) -> Profile:
        """The best by expected harms; the budget is one that can be reached."""
        return self.weighted([1.0] * len(self.harms), budget)

    def weighted(self, weights: Sequence[float], budget: float) -> Profile:
        harms = [[weight * harm for harm in levels] for weight, levels in zip(weights, self.harms, strict=True)]
        profile = allocate(self.table.costs, harms, budget - self.table.fixed)
        assert profile is not None, "whoever names the budget has seen that it can be reached"
        return profile

    def uniform(self, budget: float) -> int | None:
        """The level of least expected harm that all matrices can have; None: none fits."""
        count = len(self.harms)
        fitting = [level for level in range(len(self.level_names)) if self.table.total([level] * count) <= budget]
        return min(fitting, key=lambda level: math.fsum(harms[level] for harms in self.harms), default=None)

    def searched(
        self,
        budget: float,
        options: SearchOptions,
        loss_of: Callable[[Profile], float],
        on_best: Callable[[int, float], None],
    ) -> tuple[Profile, SearchResult]:
        """The best profile that the search finds; it is never worse than the plain allocation or the uniform level."""
        uniform = self.uniform(budget)
        found = search(
            lambda weights: self.weighted(weights, budget),
            loss_of,
            len(self.harms),
            inits=options.inits,
            patience=options.patience,
            neighbourhood=options.neighbourhood,
            max_evaluations=options.max_evaluations,
            seed=options.seed,
            on_best=lambda step: on_best(step.evaluation, step.loss),
        )
        profile, loss, uniform_loss = found.profile, found.loss, None
        if uniform is not None:
            uniform_loss = loss_of((uniform,) * len(self.harms))
            if uniform_loss < loss:
                profile, loss = (uniform,) * len(self.harms), uniform_loss
        return profile, SearchResult(
            options=options,
            evaluations=found.evaluations + (uniform is not None),
            candidates=found.candidates,
            loss=loss,
            plain_loss=found.plain_loss,
            uniform_level=None if uniform is None else self.level_names[uniform],
            uniform_loss=uniform_loss,
            curve=tuple(CurvePoint(evaluation=step.evaluation, loss=step.loss) for step in found.curve),
        )

    def least_budget(self, is_good: Callable[[Profile], bool], on_step: Callable[[float], None]) -> float | None:
        """The smallest budget whose plain choice is good, by bisection; None: not even the most expensive choice is.

        Args: is_good: falls from false to true as the budget grows, as far as measurements go.
        """
        low, high = self.table.least, self.table.fixed + math.fsum(max(levels) for levels in self.table.costs)
        if is_good(self.plain(low)):
            return low
        if not is_good(self.plain(high)):
            return None
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            on_step(middle)
            low, high = (low, middle) if is_good(self.plain(middle)) else (middle, high)
        return high
