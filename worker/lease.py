"""Holds a claimed job: renews its lease, and notices when the work must stop."""

import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from jobs import repository
from jobs.database import Sessions
from jobs.errors import StaleAttempt

TICK_S = 0.2  # how soon a shutdown is noticed

log = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why an attempt must stop."""

    LOST = "lost"  # the job is somebody else's now, or must be assumed to be
    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"


class Interrupted(Exception):
    """Raised in the attempt's own thread at the next place where it can stop."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason)


class Lease:
    """The lease of one attempt, renewed by a thread for as long as the context is open.

    Args:
        shutdown: set when this worker must go.
    """

    def __init__(
        self, sessions: Sessions, job_id: str, attempt: int, lease_s: float, heartbeat_s: float, shutdown: threading.Event
    ) -> None:
        self._sessions, self._shutdown = sessions, shutdown
        self._job_id, self._attempt = job_id, attempt
        self._lease_s, self._heartbeat_s = lease_s, heartbeat_s
        self._reason: Reason | None = None
        self._on_interrupt: Callable[[], None] = lambda: None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{job_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        self._thread.join()

    def check(self) -> None:
        """Raises: Interrupted."""
        if self._reason is not None:
            raise Interrupted(self._reason)

    def on_interrupt(self, stop: Callable[[], None]) -> None:
        """Have `stop` called, from the lease's thread, when the work must stop. Raises: Interrupted: it must already."""
        self._on_interrupt = stop
        self.check()

    def _keep(self) -> None:
        renewed_at = asked_at = time.monotonic()
        while not self._closed.wait(min(TICK_S, self._heartbeat_s)):
            if self._shutdown.is_set():
                return self._interrupt(Reason.SHUTDOWN)
            now = time.monotonic()
            if now - asked_at < self._heartbeat_s:
                continue
            asked_at = now
            try:
                is_cancel_requested = self._renew()
            except StaleAttempt:
                return self._interrupt(Reason.LOST)
            except SQLAlchemyError:
                log.warning("job %s: the lease could not be renewed", self._job_id, exc_info=True)
                if now - renewed_at > self._lease_s:  # it has run out, and another worker may have the job
                    return self._interrupt(Reason.LOST)
                continue
            renewed_at = now
            if is_cancel_requested:
                return self._interrupt(Reason.CANCELLED)
        return None

    def _renew(self) -> bool:
        with self._sessions.begin() as session:
            return repository.renew(session, self._job_id, self._attempt, self._lease_s)

    def _interrupt(self, reason: Reason) -> None:
        self._reason = reason
        self._on_interrupt()
