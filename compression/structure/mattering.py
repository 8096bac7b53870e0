"""How much each half of each block matters to the model: what the loss rises by without some of its units, and without it.

Errors of single halves do not tell: a large one may cost nothing that the next blocks need. Two measurements of the whole
model for each half, at a level in the middle and with nothing left, make the expected harm of every level between.
"""

from collections.abc import Callable, Sequence

from compression.goals.search import Profile

Harms = tuple[tuple[float, ...], ...]
"""Expected rise of the loss, by choice and level."""

PROBED_SHARE = 0.5  # of a half's units
LEAST_ERROR = 1e-12


def harms_of(errors: Sequence[Sequence[float]], levels: Sequence[Sequence[int]], loss_of: Callable[[Profile], float]) -> Harms:
    """Measure each half alone, from the last block on, so that a judge that remembers runs little again.

    Args:
        errors: by choice and level, rising to 1 for nothing left.
        levels: units kept, by choice and level.
    """
    found = []
    for choice in reversed(range(len(errors))):
        ends = []
        for level in (probed_level(levels[choice]), len(levels[choice]) - 1):
            ends.append(loss_of(tuple(level if other == choice else 0 for other in range(len(errors)))))
        found.append(between(errors[choice], errors[choice][probed_level(levels[choice])], *ends))
    return tuple(reversed(found))


def probed_level(levels: Sequence[int]) -> int:
    """The one that keeps about half of the units; with one unit the only one that is not dense."""
    wanted = PROBED_SHARE * levels[0]
    return min(range(1, len(levels)), key=lambda level: (abs(levels[level] - wanted), -levels[level]))


def between(errors: Sequence[float], error: float, rise: float, end: float) -> tuple[float, ...]:
    """Harm of every level: in proportion to the error up to the measured one, then straight on to that of nothing left.

    Args: errors: by level. error, rise: of the level in the middle. end: rise with nothing left, where the error is 1.
    """
    error, rise = max(error, LEAST_ERROR), max(rise, 0.0)
    end = max(end, rise)
    slope = (end - rise) / max(1 - error, LEAST_ERROR)
    return tuple(rise * found / error if found <= error else rise + slope * (found - error) for found in errors)
