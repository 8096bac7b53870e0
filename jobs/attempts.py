"""What a worker writes of the job that it holds, and how a job leaves it; functions on a session, the caller commits.

Everything here carries the attempt as its fence (`jobs/transitions.py`); taking a job is in `jobs/claim.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from compression.report import Outcome
from jobs import databases, transitions
from jobs.claim import claim as claim  # a worker finds all that it does to a job here
from jobs.databases import Chosen
from jobs.errors import StaleAttempt
from jobs.estimating.rates import Rate
from jobs.estimating.rates import record as record_rates
from jobs.failure import Failure
from jobs.publications import Published
from jobs.states import State, Wish
from jobs.tables import Artifact, Job, Solution


@dataclass(frozen=True)
class StoredFile:
    """A file of a job that already lies in the store."""

    name: str
    sha256: str
    size_bytes: int


def renew(session: Session, job_id: str, attempt: int, lease_s: float) -> Wish | None:
    """Keep the lease for another `lease_s` seconds. Returns: what the user asks by now. Raises: StaleAttempt."""
    statement = (
        update(Job)
        .where(*transitions.fence(job_id, attempt))
        .values(lease_expires_at=transitions.now() + timedelta(seconds=lease_s))
        .returning(Job.cancel_requested, Job.pause_requested)
    )
    asked = session.execute(statement).one_or_none()
    if asked is None:
        raise StaleAttempt(job_id, attempt)
    if asked.cancel_requested:
        return Wish.CANCEL
    return Wish.PAUSE if asked.pause_requested else None


PROGRESS: dict[str, tuple[InstrumentedAttribute[Any], ...]] = {
    "stage": (Job.stage,),
    "activity": (Job.activity, Job.block, Job.blocks),
    "block": (Job.block, Job.blocks, Job.fraction, Job.eta_s),
}  # what each type of event says about the job's row


def record(session: Session, job_id: str, attempt: int, event_type: str, data: dict[str, Any]) -> Job:
    """Append an event and bring the progress columns up to it. Returns: the job as it is now. Raises: StaleAttempt."""
    job = transitions.take_running(session, job_id, attempt)
    for column in PROGRESS.get(event_type, ()):
        setattr(job, column.key, data.get(column.key))
    if event_type == "stage":
        job.activity = job.eta_s = None
    transitions.append(session, job, event_type, data)
    session.flush()
    return job


def succeed(
    session: Session,
    job_id: str,
    attempt: int,
    files: Sequence[StoredFile],
    verdict: Outcome | None = None,
    solutions: Sequence[StoredFile] = (),
    rates: Sequence[Rate] = (),
    published: Published | None = None,
    chosen: Chosen | None = None,
) -> Job:
    """The end as hoped: the artifact's rows, those of its solutions, and the final state, together.

    Args:
        verdict: of the report; a result that regressed is a success of the job all the same.
        rates: what the job has measured of its device, for later estimates.
        published: where a publication has put the files of another job.
        chosen: the model database that the job chose from.
    Raises: StaleAttempt.
    """
    job = transitions.take_running(session, job_id, attempt)
    for table, stored in ((Artifact, files), (Solution, solutions)):
        session.add_all(
            table(job_id=job_id, name=file.name, sha256=file.sha256, size_bytes=file.size_bytes, created_at=transitions.now())
            for file in stored
        )
    job.solution_bytes = sum(file.size_bytes for file in solutions) if solutions else None
    job.publication = None if published is None else published.model_dump()
    record_rates(session, rates)
    if chosen is not None:
        databases.record(session, job, chosen)
    job.fraction, job.verdict = 1.0, verdict
    return transitions.move(session, job, State.SUCCEEDED)


def fail(session: Session, job_id: str, attempt: int, failure: Failure) -> Job:
    """End the job for a reason that another attempt would meet again. Raises: StaleAttempt."""
    return transitions.move(session, transitions.take_running(session, job_id, attempt), State.FAILED, failure)


def cancelled(session: Session, job_id: str, attempt: int) -> Job:
    """Confirm that the running job was stopped as its user asked. Raises: StaleAttempt."""
    return transitions.move(session, transitions.take_running(session, job_id, attempt), State.CANCELLED)


def retry(
    session: Session, job_id: str, attempt: int, reason: str, delay_s: float = 0.0, failure: Failure | None = None
) -> Job:
    """Give the job back after a fault that was not its own; it fails if this was its last attempt.

    Args: failure: the job's end then; by default that no attempt is left.
    Raises: StaleAttempt.
    """
    return transitions.back_to_queue(session, transitions.take_running(session, job_id, attempt), reason, delay_s, failure)


SHUT_DOWN = "The worker was shut down and gave the job back."


def hand_back(session: Session, job_id: str, attempt: int, reason: str = SHUT_DOWN) -> Job:
    """Give the job back although nothing went wrong, paused where that is its user's wish; the attempt is not counted
    against it. Raises: StaleAttempt."""
    job = transitions.take_running(session, job_id, attempt)
    job.max_attempts += 1  # the attempt itself is the fence and must not fall
    return transitions.back_to_queue(session, job, reason)


def requeue_expired(session: Session, now: datetime) -> list[Job]:
    """Take jobs away from workers whose lease has run out: back to the queue, or failed after the last attempt."""
    expired = select(Job.id, Job.attempt).where(Job.state == State.RUNNING, Job.lease_expires_at < now)
    expired = expired.order_by(Job.id)  # two sweepers lock in one order
    taken = []
    for job_id, attempt in session.execute(expired).all():
        job = transitions.take(session, *transitions.fence(job_id, attempt), Job.lease_expires_at < now)
        if job is not None:
            taken.append(transitions.back_to_queue(session, job, "The worker was not heard of until its lease ran out."))
    return taken
