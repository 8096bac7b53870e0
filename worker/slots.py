"""The slots of this worker: each ring takes a free one, preferably of the kind that it is for."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from jobs.needs import GPU_QUEUE
from jobs.watching.devices import Slot


class Slots:
    """Hands each slot to one thread at a time."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._free = set(range(len(slots)))
        self._lock = threading.Lock()

    @contextmanager
    def free(self, queue: str) -> Iterator[int | None]:
        """The number of a slot that is this thread's until the context ends; None where all are taken.

        Args: queue: that the ring came through.
        """
        number = self._take(lambda slot: slot.is_gpu == (queue == GPU_QUEUE))
        try:
            yield number
        finally:
            if number is not None:
                with self._lock:
                    self._free.add(number)

    def _take(self, is_preferred: Callable[[Slot], bool]) -> int | None:
        with self._lock:
            number = min(self._free, key=lambda each: (not is_preferred(self._slots[each]), each), default=None)
            self._free.discard(-1 if number is None else number)
            return number
