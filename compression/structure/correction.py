"""The time to ask of a table of times, so that the model it leads to is as fast as requested in a race. Torch-free.

A table foretells what a whole model takes to some per cent: its blocks were timed apart from each other.
"""

from collections.abc import Callable

CLOSE_ENOUGH = 0.01  # of measured from requested speed-up
RACES = 5


def corrected(
    within_s: float, least_s: float, requested: float, speedup_within: Callable[[float], float], races: int = RACES
) -> float:
    """Race, correct by what the race was off, and race again; the time whose race came nearest.

    Args:
        within_s: by the table, where it is believed.
        least_s: below it there is no model.
        speedup_within: of the model that the table has for a time, as raced.
        races: at most so many.
    """
    raced: list[tuple[float, float]] = []  # how far off, seconds asked
    for _ in range(races):
        measured = speedup_within(within_s)
        raced.append((abs(measured / requested - 1), within_s))
        if raced[-1][0] <= CLOSE_ENOUGH:
            break
        within_s = max(within_s * measured / requested, least_s)
        if any(within_s == asked for _, asked in raced):
            break
    return min(raced)[1]
