"""Small pictures made of letters, for terminals that somebody looks at."""

import math
from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉"
UNKNOWN = "·"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """A sign for each value, its height from zero; without room the largest of neighbours. Unknown ones are dots."""
    columns = min(len(values), width)
    if columns <= 0:
        return ""
    parts = [values[len(values) * i // columns : len(values) * (i + 1) // columns] for i in range(columns)]
    highest = [max((value for value in part if value is not None and math.isfinite(value)), default=None) for part in parts]
    top = max((value for value in highest if value is not None), default=0.0) or 1.0
    return "".join(UNKNOWN if value is None else LEVELS[_level(value / top)] for value in highest)


def bar(share: float, width: int) -> str:
    """A bar of `share` of the width, to an eighth of a sign."""
    eighths = round(8 * width * min(max(share, 0.0), 1.0))
    full, rest = divmod(eighths, 8)
    return "█" * full + (EIGHTHS[rest] if rest else "")


def _level(share: float) -> int:
    return min(len(LEVELS) - 1, int(share * len(LEVELS)))
