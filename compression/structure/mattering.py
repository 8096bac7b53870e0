"""How much each half of each block matters to the model: what the loss rises by when some of its units go.

Errors of single halves do not tell: a large one may cost nothing that the next blocks need. So the whole model's loss is
measured for each half alone, all else dense: with about half of its units gone, and with all. For small errors losses add up
and are linear in each error (arXiv:2411.17525). What is far from small has no law, and two ways to expect it are on offer: a
line through the first point, and one that bends there towards the second. Where little goes the first is right more often;
where whole halves must go, the second.
"""

from collections.abc import Callable, Sequence

from compression.goals.search import Profile

Harms = tuple[tuple[float, ...], ...]
"""Expected rise of the loss, by choice and level."""

PROBED_SHARE = 0.5  # of a half's units
LEAST_ERROR = 1e-12


def harms_of(
    errors: Sequence[Sequence[float]], levels: Sequence[Sequence[int]], loss_of: Callable[[Profile], float]
) -> tuple[Harms, Harms]:
    """Measure each half alone, from the last block on, so that a judge that remembers runs little again.

    Args:
        errors: by choice and level, from 0 for all units to 1 for none.
        levels: units kept, by choice and level.
    Returns: harms by a line, and bent.
    """
    straight, bent = [], []
    for choice in reversed(range(len(errors))):
        probed, gone = probed_level(levels[choice]), len(levels[choice]) - 1
        rises = {
            level: max(loss_of(tuple(level if other == choice else 0 for other in range(len(errors)))), 0.0)
            for level in sorted({probed, gone})
        }
        straight.append(_line(errors[choice], probed, rises[probed]))
        bent.append(_bent(errors[choice], probed, rises[probed], rises[gone]))
    return tuple(reversed(straight)), tuple(reversed(bent))


def probed_level(levels: Sequence[int]) -> int:
    """The one that keeps about half of the units; with one unit the only one that is not dense."""
    wanted = PROBED_SHARE * levels[0]
    return min(range(1, len(levels)), key=lambda level: (abs(levels[level] - wanted), -levels[level]))


def _line(errors: Sequence[float], probed: int, rise: float) -> tuple[float, ...]:
    slope = rise / max(errors[probed], LEAST_ERROR)
    return tuple(slope * error for error in errors)


def _bent(errors: Sequence[float], probed: int, rise: float, rise_gone: float) -> tuple[float, ...]:
    """The same up to the probed level; from there a line to what was measured with nothing left, or level if that is less."""
    until, slope = errors[probed], max(rise_gone - rise, 0.0) / max(errors[-1] - errors[probed], LEAST_ERROR)
    return tuple(
        harm if error <= until else rise + slope * (error - until)
        for harm, error in zip(_line(errors, probed, rise), errors, strict=True)
    )
