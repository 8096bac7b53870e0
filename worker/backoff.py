"""How long to wait before trying again: longer after each failure, and never all at the same moment."""

from collections.abc import Callable


def full_jitter_s(base_s: float, failures: int, cap_s: float, draw: Callable[[], float]) -> float:
    """Anything up to `base_s`, doubled with each failure after the first, but not beyond `cap_s`.

    Args: draw: gives numbers from 0 to 1, such as `random.random`. So workers that failed together do not come back together.
    """
    return draw() * min(base_s * 2.0 ** min(failures - 1, 32), cap_s)
