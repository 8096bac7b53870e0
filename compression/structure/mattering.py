"""How much each half of each block matters to the model: what the loss rises by for a unit of its error.

Errors of single halves do not tell: a large one may cost nothing that the next blocks need. So the whole model's loss is
measured once for each half, with about half of its units gone and all else dense. For small errors losses add up and are
linear in each error (arXiv:2411.17525). A line through that one point also served best for what is far from small: bending it
to the measured loss of a half that is gone alone makes whole halves look cheap, which together are not.
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
        errors: by choice and level, from 0 for all units to 1 for none.
        levels: units kept, by choice and level.
    """
    found = []
    for choice in reversed(range(len(errors))):
        probed = probed_level(levels[choice])
        rise = max(loss_of(tuple(probed if other == choice else 0 for other in range(len(errors)))), 0.0)
        slope = rise / max(errors[choice][probed], LEAST_ERROR)
        found.append(tuple(slope * error for error in errors[choice]))
    return tuple(reversed(found))


def probed_level(levels: Sequence[int]) -> int:
    """The one that keeps about half of the units; with one unit the only one that is not dense."""
    wanted = PROBED_SHARE * levels[0]
    return min(range(1, len(levels)), key=lambda level: (abs(levels[level] - wanted), -levels[level]))
