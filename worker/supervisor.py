"""A slot of this worker: claims the best job, sees it through, and claims again until nothing is queued."""

import logging
import os
import socket

from jobs import repository
from jobs.tables import Job
from worker.attempt import Attempt, Host
from worker.folder import remove_abandoned

log = logging.getLogger(__name__)


class Supervisor:
    """Works jobs off, one at a time. Never imports torch: that is the child's."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    def work_off(self) -> int:
        """Run every job that is due, until none is left or the worker must go. Returns: how many were claimed."""
        remove_abandoned(self._host.settings.scratch_dir, self._host.sessions)
        count = 0
        while not self._host.shutdown.is_set() and (job := self._claim()) is not None:
            log.info("job %s: attempt %d of %d begins", job.id, job.attempt, job.max_attempts)
            Attempt(self._host, job).run()
            count += 1
        return count

    def _claim(self) -> Job | None:
        with self._host.sessions.begin() as session:
            return repository.claim(session, self._owner, self._host.settings.lease_s)
