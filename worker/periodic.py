"""A thread that does one small thing again and again while its context is open."""

import logging
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)


class Periodic(ABC):
    """Subclasses say what in `tick`, which may also be called from elsewhere. Args: period_s: between two ticks."""

    def __init__(self, name: str, period_s: float) -> None:
        self._period_s = period_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        self._thread.join()

    @abstractmethod
    def tick(self) -> None:
        """The thing; what it raises is logged."""

    def _repeat(self) -> None:
        while not self._closed.wait(self._period_s):
            try:
                self.tick()
            except Exception:  # the boundary of the thread: a watch that is blind for a moment must look again
                log.warning("%s failed", self._thread.name, exc_info=True)
