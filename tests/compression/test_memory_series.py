"""Memory over time stays short, and no peak is lost."""

from itertools import pairwise

import pytest

from compression.memory_series import MAX_POINTS, MemorySeries


@pytest.mark.parametrize("samples", [0, 1, MAX_POINTS, MAX_POINTS + 1, 5 * MAX_POINTS + 7, 100_000])
def test_series_is_bounded_and_keeps_the_peak(samples: int) -> None:
    series = MemorySeries(0.05)
    peak = samples // 3
    for sample in range(samples):
        series.add(10**6 if sample == peak else sample % 100, None if sample % 2 else sample)
    points = series.points
    assert len(points) <= MAX_POINTS and (len(points) > MAX_POINTS // 3 or samples < MAX_POINTS)
    times = [point.seconds for point in points]
    gaps = {round(later - sooner, 3) for sooner, later in pairwise(times)}
    assert len(gaps) <= 1  # equal stretches
    if samples:
        highest = max(points, key=lambda point: point.host_bytes)
        assert highest.host_bytes == 10**6
        assert highest.seconds <= peak * 0.05 + 1e-6 and (not gaps or peak * 0.05 < highest.seconds + gaps.pop() + 1e-6)


def test_each_device_peak_is_kept() -> None:
    series = MemorySeries(1.0)
    for sample in range(4 * MAX_POINTS):
        series.add(0, sample)
    assert [point.device_bytes for point in series.points][:2] == [3, 7]


def test_without_a_device_there_is_no_figure_for_it() -> None:
    series = MemorySeries(1.0)
    for _ in range(3 * MAX_POINTS):
        series.add(1, None)
    assert {point.device_bytes for point in series.points} == {None}
