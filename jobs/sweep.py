"""What brings back lost things: jobs whose worker is gone, and rings that were never heard."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from jobs.database import Sessions
from jobs.queue import RingBell
from jobs.repository import requeue_expired
from jobs.states import State
from jobs.tables import Job


def sweep(sessions: Sessions, ring: RingBell, rings_waiting: Callable[[], int], ring_again_s: float) -> int:
    """Take jobs from dead workers, and ring again where one has been due for `ring_again_s` and no ring is on its way.

    Returns: the number of jobs taken from dead workers.
    """
    now = datetime.now(UTC)
    with sessions.begin() as session:
        taken = requeue_expired(session, now)
    with sessions.begin() as session:
        is_waiting = _is_waiting_since(session, now - timedelta(seconds=ring_again_s))
    if is_waiting and not rings_waiting():  # asked first, so that the broker does not fill up while all workers are busy
        ring()
    return len(taken)


def _is_waiting_since(session: Session, then: datetime) -> bool:
    waiting = exists().where(Job.state == State.QUEUED, Job.claimable_at < then)
    return bool(session.scalar(select(waiting)))
