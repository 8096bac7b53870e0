"""A slot of this worker: claims the best job that its device can serve, sees it through, and claims again."""

import logging
import os
import socket
from dataclasses import replace

from jobs import attempts
from jobs.kept import prune_kept
from jobs.needs import NEEDS
from jobs.tables import Job
from jobs.watching.devices import Slot
from jobs.watching.log_context import bound
from jobs.watching.presence import owner_of
from worker.attempt import Attempt, Host
from worker.folder import remove_abandoned

log = logging.getLogger(__name__)


class Supervisor:
    """Works jobs off, one at a time. Never imports torch: that is the child's.

    Args:
        slot: None: whatever the settings name, for every job.
        worker_id, number: which slot of which worker it is.
    """

    def __init__(self, host: Host, slot: Slot | None = None, worker_id: str | None = None, number: int = 0) -> None:
        self._host = host
        self._slot = slot or Slot(device=host.settings.device, name="", memory_bytes=None, needs=NEEDS)
        self._owner = owner_of(worker_id or f"{socket.gethostname()}:{os.getpid()}", number)

    def work_off(self) -> int:
        """Run every job that is due, until none is left or the worker must go. Returns: how many were claimed."""
        remove_abandoned(self._host.settings.scratch_dir, self._host.sessions)
        count = 0
        while not self._host.shutdown.is_set() and (job := self._claim()) is not None:
            with bound(job=job.id, attempt=job.attempt, tenant=job.tenant_id):
                log.info("job %s: attempt %d of %d begins on %s", job.id, job.attempt, job.max_attempts, self._slot.device)
                Attempt(self._on_device(job), job).run()
                prune_kept(self._host.settings)
            count += 1
        return count

    def _claim(self) -> Job | None:
        settings = self._host.settings
        with self._host.sessions.begin() as session:
            return attempts.claim(session, self._owner, settings.lease_s, self._slot.needs, settings.quota_running)

    def _on_device(self, job: Job) -> Host:
        device = "cpu" if job.need == "cpu" else self._slot.device
        return replace(self._host, settings=self._host.settings.model_copy(update={"device": device}))
