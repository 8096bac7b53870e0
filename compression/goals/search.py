"""A random search over the weight of each layer's error in the allocation, judged by the loss of the whole model.

Source: SPDY, arXiv:2201.13096, section 3.C. Every candidate meets the budget, since the allocation sees to it; the search only
learns what layer errors do not tell: how much a layer matters to the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Profile = tuple[int, ...]
"""The level of each layer."""

LEAST = 1e-3  # with weight 0 a layer could be destroyed for nothing


@dataclass(frozen=True)
class Step:
    """A new best profile. Args: evaluation: how many losses had been computed by then, this one included."""

    evaluation: int
    loss: float


@dataclass(frozen=True)
class Found:
    """The best profile and the way to it.

    Args:
        weights: that led to the profile.
        loss, plain_loss: of the best profile, and of the one without weights, which is among the candidates.
        evaluations: losses that were computed; the candidates beyond them led to a profile seen before.
        curve: the best loss so far, wherever it fell.
    """

    profile: Profile
    weights: tuple[float, ...]
    loss: float
    plain_loss: float
    evaluations: int
    candidates: int
    curve: tuple[Step, ...]


class _Best:
    def __init__(
        self,
        allocate_with: Callable[[Sequence[float]], Profile],
        loss_of: Callable[[Profile], float],
        max_evaluations: int,
        on_best: Callable[[Step], None],
    ) -> None:
        self._allocate_with, self._loss_of, self._on_best = allocate_with, loss_of, on_best
        self._losses: dict[Profile, float] = {}
        self._max_evaluations = max_evaluations
        self.candidates = 0
        self.weights: list[float] = []
        self.profile: Profile = ()
        self.loss = np.inf
        self.curve: list[Step] = []

    @property
    def is_over(self) -> bool:
        return len(self._losses) >= self._max_evaluations

    @property
    def evaluations(self) -> int:
        return len(self._losses)

    def tries(self, weights: list[float]) -> bool:
        """Whether these weights lead to a better profile."""
        self.candidates += 1
        profile = self._allocate_with(weights)
        if profile not in self._losses:
            self._losses[profile] = self._loss_of(profile)
        loss = self._losses[profile]
        if not loss < self.loss:
            return False
        self.weights, self.profile, self.loss = weights, profile, loss
        self.curve.append(Step(self.evaluations, loss))
        self._on_best(self.curve[-1])
        return True


def search(
    allocate_with: Callable[[Sequence[float]], Profile],
    loss_of: Callable[[Profile], float],
    layers: int,
    *,
    inits: int = 100,
    patience: int = 100,
    neighbourhood: float = 0.1,
    max_evaluations: int = 1000,
    seed: int = 0,
    start: Sequence[float] | None = None,
    on_best: Callable[[Step], None] = lambda _: None,
) -> Found:
    """Best of random weights, then of changes to some of them, fewer and fewer.

    All weights 1 is the first candidate, so that the result is never worse than the plain allocation. The same arguments give
    the same result.

    Args:
        allocate_with: weights of the layers -> the best profile within the budget.
        loss_of: of the whole model with a profile; lower is better. Called once for each profile.
        layers: how many there are.
        inits: random draws of all weights, uniform between 0 and 1.
        patience: failures in a row, after which fewer weights are redrawn at once.
        neighbourhood: the share of the weights that is redrawn at first.
        start: weights that served elsewhere, tried second.
        max_evaluations: calls of `loss_of`. Further candidates may still be found among the profiles seen.
    """
    random = np.random.default_rng(seed)
    best = _Best(allocate_with, loss_of, max(max_evaluations, 1), on_best)
    best.tries([1.0] * layers)
    plain_loss = best.loss
    if start is not None and not best.is_over:
        best.tries(list(start))
    for _ in range(inits):
        if best.is_over:
            break
        best.tries(_drawn(random, layers))
    for redrawn in range(max(1, round(neighbourhood * layers)), 0, -1):
        failures = 0
        while failures < patience and not best.is_over:
            weights = list(best.weights)
            for layer, weight in zip(random.integers(layers, size=redrawn), _drawn(random, redrawn), strict=True):
                weights[layer] = weight
            failures = 0 if best.tries(weights) else failures + 1
    return Found(
        best.profile, tuple(best.weights), best.loss, plain_loss, best.evaluations, best.candidates, tuple(best.curve)
    )


def _drawn(random: np.random.Generator, count: int) -> list[float]:
    return [max(weight, LEAST) for weight in random.random(count).tolist()]
