"""How much disk space a job's folder takes, measured now and then."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from worker.periodic import Periodic
from worker.process_group import members, unlinked_bytes

MEASURE_S = 1.0
BLOCK_BYTES = 512  # in which the system counts, whatever the file system's blocks are

log = logging.getLogger(__name__)


class ScratchWatch(Periodic):
    """Stops a runner whose job's folder exceeds its quota.

    Args: quota_bytes: None only measures nothing.
    Attributes: exceeded_bytes: what the folder had grown to when it was too much; None: it has not been.
    """

    def __init__(
        self, folder: Path, leader: int, quota_bytes: int | None, stop: Callable[[], None], period_s: float = MEASURE_S
    ) -> None:
        super().__init__("scratch-watch", period_s)
        self._folder, self._leader, self._quota_bytes, self._stop = folder, leader, quota_bytes, stop
        self.exceeded_bytes: int | None = None

    def tick(self) -> None:
        if self._quota_bytes is None or self.exceeded_bytes is not None:
            return
        used = used_bytes(self._folder) + sum(unlinked_bytes(pid, self._folder) for pid in members(self._leader))
        if used > self._quota_bytes:
            self.exceeded_bytes = used
            log.warning("%s takes %d bytes, its quota is %d", self._folder, used, self._quota_bytes)
            self._stop()


def used_bytes(folder: Path) -> int:
    """Disk space below a folder; a file with several names counts once, and a hole in one does not."""
    sizes: dict[tuple[int, int], int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                found = (Path(parent) / name).lstat()
            except OSError:  # it has just been removed
                continue
            sizes[found.st_dev, found.st_ino] = found.st_blocks * BLOCK_BYTES
    return sum(sizes.values())
