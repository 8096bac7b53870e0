"""What an attempt writes of its job: each write a transaction under the attempt's fence, repeated while the database is away.

A database that restarts must not cost a job its attempt. So a write is tried again for as long as a lease lasts; whose the job
is by then, the fence decides. A connection that breaks in a commit leaves open whether it happened: before a repetition, and
where the fence refuses one, the rows are asked.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from jobs import attempts, repository
from jobs.database import Sessions
from jobs.errors import StaleAttempt
from jobs.states import State
from jobs.tables import Event, Job

FIRST_WAIT_S = 0.1
MAX_WAIT_S = 2.0

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Change = Callable[Concatenate[Session, str, int, P], Job]


class Journal:
    """The writes of one attempt, from any of its threads.

    Args:
        last_seq: of the event that its claim wrote.
        patience_s: for how long a write is tried; not longer than the lease.
    """

    def __init__(self, sessions: Sessions, job_id: str, attempt: int, last_seq: int, patience_s: float) -> None:
        self._sessions = sessions
        self._job_id, self._attempt = job_id, attempt
        self._last_seq = last_seq
        self._patience_s = patience_s

    def record(self, event_type: str, data: dict[str, Any], check: Callable[[], None]) -> None:
        """Append an event, once. Args: check: raises when the attempt must stop, however away the database is.

        Raises: StaleAttempt. What `check` raises.
        """

        newest = self._last_seq  # before the first try: other threads write meanwhile

        def write(is_repeated: bool) -> int:
            with self._sessions.begin() as session:
                written = self._seq_of(session, newest, event_type, data) if is_repeated else None
                return written or attempts.record(session, self._job_id, self._attempt, event_type, data).last_seq

        self._last_seq = max(self._patiently(write, check), newest)

    def end(self, change: Change[P], *args: P.args, **kwargs: P.kwargs) -> Job:
        """Write how the attempt ended. Raises: StaleAttempt."""

        def write(is_repeated: bool) -> Job:
            try:
                with self._sessions.begin() as session:
                    return change(session, self._job_id, self._attempt, *args, **kwargs)
            except StaleAttempt:
                ended = self._ended_by_this_attempt() if is_repeated else None
                if ended is None:
                    raise
                return ended

        return self._patiently(write, check=lambda: None)

    def _seq_of(self, session: Session, newest: int, event_type: str, data: dict[str, Any]) -> int | None:
        """The number of this event, where an earlier try has written it after all: one above `newest`."""
        newer = select(Event).where(
            Event.job_id == self._job_id, Event.seq > newest, Event.attempt == self._attempt, Event.type == event_type
        )
        return next((event.seq for event in session.scalars(newer) if event.data == data), None)

    def _ended_by_this_attempt(self) -> Job | None:
        with self._sessions() as session:
            job = repository.find(session, self._job_id)
        return job if job.attempt == self._attempt and job.state is not State.RUNNING else None

    def _patiently(self, write: Callable[[bool], T], check: Callable[[], None]) -> T:
        deadline, wait_s, is_repeated = time.monotonic() + self._patience_s, FIRST_WAIT_S, False
        while True:
            try:
                return write(is_repeated)
            except (DBAPIError, PoolTimeoutError) as error:
                if not is_outage(error) or time.monotonic() + wait_s > deadline:
                    raise
                log.warning("job %s: the database does not answer: %s", self._job_id, error)
            check()
            time.sleep(wait_s)
            wait_s, is_repeated = min(2 * wait_s, MAX_WAIT_S), True


def is_outage(error: Exception) -> bool:
    """Whether the same statement may go well later: the server is away, starts, is locked, or broke a deadlock."""
    return isinstance(error, OperationalError | InterfaceError | PoolTimeoutError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
