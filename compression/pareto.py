"""Which of several results are worth a look: those that no other one beats in everything. Torch-free."""

from collections.abc import Sequence


def undominated(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """For each point, lower is better, whether no other is at least as good in every figure and better in one.

    Equal points do not dominate each other.
    """
    return [not any(_beats(other, point) for other in points) for point in points]


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other
