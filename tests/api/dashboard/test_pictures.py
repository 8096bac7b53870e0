"""Where things stand in the pictures that the server draws."""

from api.dashboard.templates import count, duration, size, target
from compression.pareto import undominated


def test_dominated_is_what_another_one_beats_in_one_and_equals_in_the_other() -> None:
    points = [(10.0, 1.0), (5.0, 1.2), (10.0, 1.1), (5.0, 1.2)]
    assert [not is_best for is_best in undominated(points)] == [False, False, True, False]


def test_figures_are_written_shortly() -> None:
    assert [size(value) for value in (None, 0, 999, 1.5e6, 2e13)] == ["–", "0 B", "999 B", "1.5 MB", "20 TB"]
    assert [duration(value) for value in (None, 3, 59.7, 3725)] == ["–", "3 s", "1 min 00 s", "1 h 02 min"]
    assert [count(value) for value in (None, 12, 134_515_008)] == ["–", "12", "135 M"]
    assert target({"method": "joint", "sparsity": 0.5, "pattern": "2:4", "bits": 4}) == "joint 2:4 4 bit"
