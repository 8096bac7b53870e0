"""How a job's row changes: locked by one conditional UPDATE, moved along the table of states, told as an event.

Each write begins with one conditional UPDATE. Where the condition holds, the row is locked until the commit, so that what
follows in Python (the new state, the next event) is safe with any number of writers; where it does not, nothing happened.
Everything a worker writes carries its attempt as the fence: after the job was given to somebody else it is refused.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, update
from sqlalchemy.orm import Session

from jobs.access.usage import account
from jobs.errors import IllegalTransition, JobNotFound, StaleAttempt
from jobs.failure import Failure, exhausted
from jobs.limits import held_s
from jobs.scope import is_owned
from jobs.states import FINAL, TRANSITIONS, State
from jobs.tables import Checkpoint, Event, Job, Ring
from jobs.webhooks.outbox import announce


def take(session: Session, *where: ColumnElement[bool], **values: Any) -> Job | None:
    """Lock the one row that fits, change it, and number its next event. The caller appends exactly that one event."""
    statement = (
        update(Job)
        .where(*where)
        .values(last_seq=Job.last_seq + 1, updated_at=now(), **values)
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return session.scalars(statement).one_or_none()


def lock(session: Session, tenant_id: str, job_id: str) -> Job:
    """Lock the tenant's job until the commit, and read it anew. Raises: JobNotFound."""
    statement = (
        update(Job)
        .where(is_owned(Job, tenant_id), Job.id == job_id)
        .values(id=Job.id)
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    job = session.scalars(statement).one_or_none()
    if job is None:
        raise JobNotFound(job_id)
    return job


def take_running(session: Session, job_id: str, attempt: int) -> Job:
    job = take(session, *fence(job_id, attempt))
    if job is None:
        raise StaleAttempt(job_id, attempt)
    return job


def hold(session: Session, job_id: str, attempt: int) -> None:
    """Lock the row of a running job for a write that is no event. Raises: StaleAttempt."""
    statement = update(Job).where(*fence(job_id, attempt)).values(updated_at=now()).returning(Job.id)
    if session.scalars(statement).one_or_none() is None:
        raise StaleAttempt(job_id, attempt)


def fence(job_id: str, attempt: int) -> tuple[ColumnElement[bool], ...]:
    return Job.id == job_id, Job.attempt == attempt, Job.state == State.RUNNING


def append(session: Session, job: Job, event_type: str, data: dict[str, Any]) -> None:
    session.add(
        Event(job_id=job.id, seq=job.last_seq, type=event_type, data=data, attempt=job.attempt, created_at=job.updated_at)
    )


def move(session: Session, job: Job, to: State, failure: Failure | None = None, reason: str | None = None) -> Job:
    """The one place where a job that is held by `_take` changes its state; only `claim` does so by itself.

    Raises: IllegalTransition.
    """
    if to not in TRANSITIONS[job.state]:
        raise IllegalTransition(job.id, job.state, to)
    if job.state is State.RUNNING:
        ended_at = now()
        device_s = held_s(job, ended_at)
        job.running_s += device_s
        account(session, job, ended_at, device_s)
    job.state = to
    job.owner = job.lease_expires_at = job.stage = job.activity = job.eta_s = None
    job.pause_requested = False  # fulfilled, or overtaken
    data: dict[str, Any] = {"state": to, "attempt": job.attempt}
    if to in FINAL:
        job.finished_at = now()
        job.cancel_requested = False
        session.execute(delete(Checkpoint).where(Checkpoint.job_id == job.id))
    if failure is not None:
        job.error = data["error"] = failure.model_dump()
    if reason is not None:
        data["reason"] = reason
    if job.verdict is not None:
        data["verdict"] = job.verdict
    append(session, job, "state", data)
    session.flush()
    announce(session, job)
    return job


def back_to_queue(session: Session, job: Job, reason: str, delay_s: float = 0.0, failure: Failure | None = None) -> Job:
    """What becomes of a job whose attempt ended without a result. Args: failure: its end, where no attempt is left."""
    if job.cancel_requested:
        return move(session, job, State.CANCELLED)
    if job.attempt >= job.max_attempts:
        last = failure or exhausted(reason)
        detail = f"Attempt {job.attempt} of {job.max_attempts} was the last. {last.detail}"
        return move(session, job, State.FAILED, Failure.model_validate(last.model_dump() | {"detail": detail}))
    if job.pause_requested:
        return move(session, job, State.PAUSED, reason=reason)
    job.claimable_at = now() + timedelta(seconds=delay_s)
    session.add(Ring(job_id=job.id, due_at=job.claimable_at))
    return move(session, job, State.QUEUED, reason=reason)


def now() -> datetime:
    return datetime.now(UTC)
