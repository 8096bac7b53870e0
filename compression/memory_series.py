"""Memory over time in few numbers, however long it takes. Torch-free."""

from compression.report import MemoryPoint

MAX_POINTS = 120  # even, so that they pair up


class MemorySeries:
    """The most memory of each stretch of time. When there are `MAX_POINTS`, two become one and stretches twice as long.

    Args: interval_s: between two samples.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._points: list[MemoryPoint] = []
        self._samples, self._per_point = 0, 1

    @property
    def points(self) -> tuple[MemoryPoint, ...]:
        return tuple(self._points)

    def add(self, host_bytes: int, device_bytes: int | None) -> None:
        """One more sample, an interval after the last one."""
        seconds = round(self._samples * self._interval_s, 3)
        point = MemoryPoint(seconds=seconds, host_bytes=host_bytes, device_bytes=device_bytes)
        if self._samples % self._per_point:
            self._points[-1] = _higher(self._points[-1], point)
        else:
            if len(self._points) == MAX_POINTS:
                self._points = [_higher(*pair) for pair in zip(self._points[::2], self._points[1::2], strict=True)]
                self._per_point *= 2
            self._points.append(point)
        self._samples += 1


def _higher(first: MemoryPoint, second: MemoryPoint) -> MemoryPoint:
    device = [point.device_bytes for point in (first, second) if point.device_bytes is not None]
    return MemoryPoint(
        seconds=first.seconds,
        host_bytes=max(first.host_bytes, second.host_bytes),
        device_bytes=max(device, default=None),
    )
