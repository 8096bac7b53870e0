"""What brings back lost things: jobs whose worker is gone, and rings that were never heard."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from jobs.attempts import requeue_expired
from jobs.database import Sessions
from jobs.needs import NEEDS, Need
from jobs.queue import RingBell, RingsWaiting
from jobs.states import State
from jobs.tables import Job


def sweep(sessions: Sessions, ring: RingBell, rings_waiting: RingsWaiting, ring_again_s: float) -> int:
    """Take jobs from dead workers, and ring again where one has been due for `ring_again_s` and no ring is on its way.

    Returns: the number of jobs taken from dead workers.
    """
    now = datetime.now(UTC)
    with sessions.begin() as session:
        taken = requeue_expired(session, now)
    then = now - timedelta(seconds=ring_again_s)
    with sessions.begin() as session:
        waiting = [need for need in NEEDS if _is_waiting_since(session, need, then)]
    for need in waiting:
        if not rings_waiting(need):  # asked first, so that the broker does not fill up while all workers are busy
            ring(need)
    return len(taken)


def _is_waiting_since(session: Session, need: Need, then: datetime) -> bool:
    waiting = exists().where(Job.state == State.QUEUED, Job.need == need, Job.claimable_at < then)
    return bool(session.scalar(select(waiting)))
