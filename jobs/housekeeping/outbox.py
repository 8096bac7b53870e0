"""From the outbox to the broker: at least once, never before the change it announces is committed."""

from datetime import UTC, datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from jobs.queue import RingBell
from jobs.tables import Job, Ring

BATCH = 100


def relay(session: Session, ring: RingBell) -> int:
    """Publish every ring that is due, then take it out of the outbox; the caller commits.

    A fault in between leaves the row, and the bell rings once more. Returns: the rings published.
    """
    due = select(Ring.id, Job.need).join(Job, Job.id == Ring.job_id).where(Ring.due_at <= datetime.now(UTC))
    rings = session.execute(due.order_by(Ring.due_at, Ring.id).limit(BATCH)).all()
    for _, need in rings:
        ring(need)
    session.execute(delete(Ring).where(Ring.id.in_([ring_id for ring_id, _ in rings])))
    return len(rings)
