"""How much memory a runner takes, seen from outside, so that it is known whatever becomes of the runner."""

import logging
import os
import signal
from contextlib import suppress

from worker.periodic import Periodic
from worker.process_group import anonymous_bytes, members

SAMPLE_S = 0.1

log = logging.getLogger(__name__)


class MemoryWatch(Periodic):
    """Samples the anonymous memory of a runner and its children. The kernel keeps a peak only with mapped files in it.

    Beyond the limit the largest of them is ended at once, as the kernel does: it is the host that is at stake. Where that is
    not the runner itself but a child, such as the process that only tries to load the artifact, the runner goes on.

    Attributes:
        peak_bytes: the highest sum that was seen.
    """

    def __init__(self, leader: int, limit_bytes: int, period_s: float = SAMPLE_S) -> None:
        super().__init__("memory-watch", period_s)
        self._leader, self._limit_bytes = leader, limit_bytes
        self._ended: set[int] = set()
        self.peak_bytes = 0

    @property
    def has_ended_the_runner(self) -> bool:
        return self._leader in self._ended

    def tick(self) -> None:
        found = {pid: anonymous_bytes(pid) for pid in members(self._leader) if pid not in self._ended}
        now_bytes = sum(found.values())
        self.peak_bytes = max(self.peak_bytes, now_bytes)
        if now_bytes > self._limit_bytes:
            self._end(max(found, key=lambda pid: found[pid]), now_bytes)

    def _end(self, pid: int, now_bytes: int) -> None:
        log.warning("runner %d has %d bytes of memory of %d: ending %d", self._leader, now_bytes, self._limit_bytes, pid)
        self._ended.add(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
