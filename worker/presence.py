"""Tells the service that this worker is there, every few seconds, from one thread."""

import logging
import os
import shutil
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict

from sqlalchemy.exc import SQLAlchemyError

from compression import __version__
from jobs import transitions
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.tables import Worker
from jobs.watching import presence
from jobs.watching.devices import Slot, queues_of
from jobs.watching.presence import Resources
from worker.host_memory import available_bytes, memory_limit_bytes

log = logging.getLogger(__name__)


class Presence:
    """A worker's row, from `start` to `stop`. A database that is away is waited for.

    Args: shutdown: set when this worker takes no job any more.
    """

    def __init__(
        self, sessions: Sessions, settings: Settings, worker_id: str, slots: Sequence[Slot], shutdown: threading.Event
    ) -> None:
        self._sessions, self._settings = sessions, settings
        self._worker_id, self._slots, self._shutdown = worker_id, slots, shutdown
        self._started_at = transitions.now()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Leave in order; safe to call where it was never started."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _keep(self) -> None:
        while True:
            self._try(self._renew)
            if self._stopped.wait(self._settings.heartbeat_s):
                return self._try(self._leave)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except SQLAlchemyError as error:
            log.warning("this worker could not tell that it is there: %s", error)

    def _renew(self) -> None:
        resources = resources_of_host(self._settings)
        with self._sessions.begin() as session:
            is_draining = self._shutdown.is_set()
            if not presence.renew(session, self._worker_id, resources, is_draining=is_draining):
                presence.announce(session, self._row(resources, is_draining))

    def _leave(self) -> None:
        with self._sessions.begin() as session:
            presence.leave(session, self._worker_id)

    def _row(self, resources: Resources, is_draining: bool) -> Worker:
        return Worker(
            id=self._worker_id,
            host=socket.gethostname()[:255],
            pid=os.getpid(),
            version=__version__,
            slots=[slot.model_dump(mode="json") for slot in self._slots],
            queues=list(queues_of(self._slots)),
            **asdict(resources),
            is_draining=is_draining,
            started_at=self._started_at,
            heartbeat_at=transitions.now(),
        )


def resources_of_host(settings: Settings) -> Resources:
    """Memory, and the disk under the work folders."""
    folder = settings.scratch_dir
    while not folder.exists():
        folder = folder.parent
    disk = shutil.disk_usage(folder)
    return Resources(memory_limit_bytes(settings), available_bytes(), disk.total, disk.free)
