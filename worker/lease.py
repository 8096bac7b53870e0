"""Holds a claimed job: renews its lease, and notices when the work must stop."""

import logging
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from jobs import attempts
from jobs.database import Sessions
from jobs.errors import StaleAttempt
from jobs.states import Wish

TICK_S = 0.2  # how soon a shutdown is noticed

log = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why an attempt must stop."""

    LOST = "lost"  # the job is somebody else's now, or must be assumed to be
    CANCELLED = "cancelled"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    DEADLINE = "deadline"


WISHES = {Wish.CANCEL: Reason.CANCELLED, Wish.PAUSE: Reason.PAUSED}


class Interrupted(Exception):
    """Raised in the attempt's own thread at the next place where it can stop."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason)


class Lease:
    """The lease of one attempt, renewed by a thread for as long as the context is open, also while the work winds up.

    Args:
        shutdown: set when this worker must go.
        drain_s: how long what runs may then go on, so that its last steps are not lost.
        run_left_s: seconds that the job may still run; None: as long as it takes.
    """

    def __init__(
        self,
        sessions: Sessions,
        job_id: str,
        attempt: int,
        lease_s: float,
        heartbeat_s: float,
        shutdown: threading.Event,
        drain_s: float = 0.0,
        *,
        run_left_s: float | None = None,
    ) -> None:
        self._run_until = None if run_left_s is None else time.monotonic() + run_left_s
        self._sessions, self._shutdown = sessions, shutdown
        self._job_id, self._attempt = job_id, attempt
        self._lease_s, self._heartbeat_s, self._drain_s = lease_s, heartbeat_s, drain_s
        self._reason: Reason | None = None
        self._on_interrupt: Callable[[], None] = lambda: None
        self._on_drain: Callable[[], None] | None = None
        self._drain_until: float | None = None  # on the monotonic clock
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

    def on_interrupt(self, stop: Callable[[], None], drain: Callable[[], None]) -> None:
        """Have these called, from the lease's thread, when the work must stop.

        Args: drain: called first where this worker must go; `stop` follows only if the work has not stopped in time.
        Raises: Interrupted: it must already.
        """
        self._on_interrupt, self._on_drain = stop, drain
        self.check()

    def stopped(self) -> None:
        """The work says that it has stopped as it was told. Raises: Interrupted, if it was."""
        if self._drain_until is not None and self._reason is None:
            self._reason = Reason.SHUTDOWN
        self.check()

    def _keep(self) -> None:
        renewed_at = asked_at = time.monotonic()
        while not self._closed.wait(min(TICK_S, self._heartbeat_s)):
            now = time.monotonic()
            if self._shutdown.is_set():
                self._wind_up(now)
            if self._run_until is not None and now > self._run_until:
                self._interrupt(Reason.DEADLINE)
            if now - asked_at < self._heartbeat_s:
                continue
            asked_at = now
            try:
                wish = self._renew()
            except StaleAttempt:
                return self._interrupt(Reason.LOST)
            except SQLAlchemyError:
                log.warning("job %s: the lease could not be renewed", self._job_id, exc_info=True)
                if now - renewed_at > self._lease_s:  # it has run out, and another worker may have the job
                    return self._interrupt(Reason.LOST)
                continue
            renewed_at = now
            if wish is not None:
                self._interrupt(WISHES[wish])

    def _wind_up(self, now: float) -> None:
        """This worker must go: drain what can be drained, for as long as that may take."""
        if self._on_drain is None or self._drain_s == 0:
            self._interrupt(Reason.SHUTDOWN)
        elif self._drain_until is None:
            self._drain_until = now + self._drain_s
            self._on_drain()
        elif now > self._drain_until:
            self._interrupt(Reason.SHUTDOWN)

    def _renew(self) -> Wish | None:
        with self._sessions.begin() as session:
            return attempts.renew(session, self._job_id, self._attempt, self._lease_s)

    def _interrupt(self, reason: Reason) -> None:
        """Once: whatever came first is why."""
        if self._reason is None:
            self._reason = reason
            self._on_interrupt()
