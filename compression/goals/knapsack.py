"""The exact choice of one level for each layer under a budget: a multiple-choice knapsack by dynamic programming.

Source: SPDY, arXiv:2201.13096, section 3. Unlike its released code, costs are rounded up to whole buckets, so that the budget
is a guarantee; and every layer's cheapest level is paid for first, so that only what lies above it is rounded.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BUCKETS = 50_000

Steps = list[list[int]]
"""By layer and level: buckets that the level takes more than the layer's cheapest one."""


def allocate(
    costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], budget: float, buckets: int = BUCKETS
) -> tuple[int, ...] | None:
    """The levels with the least sum of errors whose costs add up to no more than the budget.

    Whole costs that leave at most `buckets` of the budget above the cheapest levels are not rounded: the choice is exact.
    Otherwise its error is at most that of the best choice under the budget times 1 - layers / buckets. Of equal errors the
    lower cost is taken.

    Args:
        costs, errors: by layer and level, finite and not negative; layers may have different numbers of levels.
        budget: in the unit of the costs; what is fixed has been taken off.
    Returns: for each layer the index of its level; None where even the cheapest levels exceed the budget.
    """
    cheapest = [min(layer) for layer in costs]
    left = budget - math.fsum(cheapest)
    if left < 0:
        return None
    extras = [[cost - least for cost in layer] for layer, least in zip(costs, cheapest, strict=True)]
    room, steps = _in_buckets(extras, left, buckets)
    least_B = np.full(room + 1, np.inf)  # least error of the layers so far that take exactly so many buckets
    least_B[0] = 0
    picks = []
    for layer_steps, layer_errors in zip(steps, errors, strict=True):
        least_B, pick_B = _add_layer(least_B, layer_steps, layer_errors)
        picks.append(pick_B)
    at = int(least_B.argmin())  # the first, so the cheapest, of equal ones
    chosen = []
    for layer_steps, pick_B in zip(reversed(steps), reversed(picks), strict=True):
        chosen.append(int(pick_B[at]))
        at -= layer_steps[chosen[-1]]
    profile = tuple(reversed(chosen))
    assert math.fsum(layer[level] for layer, level in zip(costs, profile, strict=True)) <= budget, "buckets are rounded up"
    return profile


def _in_buckets(extras: Sequence[Sequence[float]], left: float, buckets: int) -> tuple[int, Steps]:
    """How many buckets there are, and how many each level takes, rounded up."""
    is_whole = all(float(extra).is_integer() for layer in extras for extra in layer)
    if is_whole and left < buckets + 1:
        return int(left), [[int(extra) for extra in layer] for layer in extras]
    if is_whole:
        whole = int(left)
        return buckets, [[-(-int(extra) * buckets // whole) for extra in layer] for layer in extras]
    if left == 0:
        return 0, [[int(extra > 0) for extra in layer] for layer in extras]
    return buckets, [[_rounded_up(extra, left, buckets) for extra in layer] for layer in extras]


def _rounded_up(extra: float, left: float, buckets: int) -> int:
    """Least number of buckets that hold `extra`. A quotient of floats may have been rounded down past a whole number."""
    if extra > left:
        return buckets + 1
    steps = math.ceil(extra / left * buckets)
    return steps + (steps * (left / buckets) < extra)


def _add_layer(
    least_B: NDArray[np.float64], steps: Sequence[int], errors: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """The next row of the table: least errors with one layer more, and the level of that layer by the buckets taken."""
    added_B = np.full_like(least_B, np.inf)
    pick_B = np.full(len(least_B), -1, dtype=np.int16)
    for level in sorted(range(len(steps)), key=steps.__getitem__):  # of equal errors the one found first, the cheapest, stays
        step = steps[level]
        if step >= len(least_B):
            break
        candidate = least_B[: len(least_B) - step] + errors[level]
        is_better = candidate < added_B[step:]
        added_B[step:][is_better] = candidate[is_better]
        pick_B[step:][is_better] = level
    return added_B, pick_B
