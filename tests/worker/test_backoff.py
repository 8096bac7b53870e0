import pytest

from worker.backoff import full_jitter_s


@pytest.mark.parametrize(
    ("failures", "most_s"),
    [(1, 5.0), (2, 10.0), (4, 40.0), (7, 300.0), (10_000, 300.0)],
    ids=["first", "second", "fourth", "capped", "absurd"],
)
def test_the_most_doubles_with_each_failure_up_to_the_cap(failures: int, most_s: float) -> None:
    assert full_jitter_s(5.0, failures, 300.0, draw=lambda: 1.0) == most_s
    assert full_jitter_s(5.0, failures, 300.0, draw=lambda: 0.25) == most_s / 4
    assert full_jitter_s(5.0, failures, 300.0, draw=lambda: 0.0) == 0.0
