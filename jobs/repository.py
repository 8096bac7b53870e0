"""Every change of a job's row, as plain functions on a session; the caller commits.

Each write begins with one conditional UPDATE. Where the condition holds, the row is locked until the commit, so that what
follows in Python (the new state, the next event) is safe with any number of writers; where it does not, nothing happened.
Everything a worker writes carries its attempt as the fence: after the job was given to somebody else it is refused.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, select, tuple_, update
from sqlalchemy.orm import InstrumentedAttribute, Session
from ulid import ULID

from compression.formats.sizes import Forecast
from compression.manifest import REPORT_FILE
from compression.recipe import ResolvedRecipe
from compression.report import Outcome
from jobs.cursor import decode_cursor, encode_cursor
from jobs.errors import ArtifactNotFound, IllegalTransition, JobNotFound, ReportNotReady, StaleAttempt
from jobs.failure import ATTEMPTS_EXHAUSTED, Failure
from jobs.request import LABEL_KEY_PATTERN, JobRequest
from jobs.states import FINAL, TRANSITIONS, State
from jobs.tables import Artifact, Event, Job, Ring, Solution

MAX_PAGE = 200


@dataclass(frozen=True)
class Page:
    """Jobs, newest first, and where the next page begins; None on the last one."""

    jobs: Sequence[Job]
    next_cursor: str | None


@dataclass(frozen=True)
class StoredFile:
    """A file of a job that already lies in the store."""

    name: str
    sha256: str
    size_bytes: int


def submit(
    session: Session, request: JobRequest, resolved: ResolvedRecipe | None, max_attempts: int, forecast: Forecast | None = None
) -> Job:
    """Queue a compression or an evaluation. Args: resolved: what `check_request` returned."""
    return enqueue(
        session,
        task=request.task,
        model=request.model,
        request=request.model_dump(mode="json", exclude_unset=True),
        recipe={} if resolved is None else resolved.model_dump(mode="json"),
        labels=dict(request.labels),
        forecast=forecast and forecast.model_dump(),
        max_attempts=max_attempts,
    )


def enqueue(session: Session, **fields: Any) -> Job:
    """Write a job, its first event and the ring that will wake a worker, to be committed together.

    Args: fields: of the row: task, model, request, recipe, labels, max_attempts and whatever else that task has.
    """
    now = _now()
    job = Job(
        id=str(ULID.from_datetime(now)),
        state=State.QUEUED,
        attempt=0,
        last_seq=1,
        claimable_at=now,
        created_at=now,
        updated_at=now,
        **fields,
    )
    session.add(job)
    session.flush()
    session.add(Ring(job_id=job.id, due_at=now))
    _append(session, job, "state", {"state": State.QUEUED, "attempt": 0})
    session.flush()
    return job


def get(session: Session, job_id: str) -> Job:
    """Raises: JobNotFound."""
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise JobNotFound(job_id)
    return job


def list_jobs(
    session: Session,
    *,
    state: State | None = None,
    model: str | None = None,
    label: tuple[str, str] | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """One page of jobs, newest first, that match every filter given.

    Args:
        label: (key, value) that the job must carry.
        cursor: `next_cursor` of the page before.
        limit: at most this many, and at most `MAX_PAGE`.
    Raises: InvalidCursor.
    """
    limit = max(1, min(limit, MAX_PAGE))
    query = select(Job).order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)
    if state is not None:
        query = query.where(Job.state == state)
    if model is not None:
        query = query.where(Job.model == model)
    if label is not None:
        if not re.fullmatch(LABEL_KEY_PATTERN, label[0]):
            return Page([], None)  # no job can carry it, and it must not become part of a JSON path
        query = query.where(Job.labels[label[0]].as_string() == label[1])
    if cursor is not None:
        query = query.where(tuple_(Job.created_at, Job.id) < tuple_(*decode_cursor(cursor)))
    found = session.scalars(query).all()
    jobs = found[:limit]
    return Page(jobs, encode_cursor(jobs[-1].created_at, jobs[-1].id) if len(found) > limit else None)


def request_cancel(session: Session, job_id: str) -> Job:
    """Cancel a waiting job at once; flag a running one, whose supervisor sees it at its next renewal.

    Raises: JobNotFound. IllegalTransition: the job has ended.
    """
    job = _take(session, Job.id == job_id, Job.state.not_in(FINAL))
    if job is None:
        raise IllegalTransition(job_id, get(session, job_id).state, State.CANCELLED)
    if job.state is State.RUNNING:
        job.cancel_requested = True
        _append(session, job, "note", {"level": "info", "message": "Cancellation was requested."})
    else:
        _move(session, job, State.CANCELLED)
    session.flush()
    return job


def events_after(session: Session, job_id: str, seq: int, limit: int = 1000) -> Sequence[Event]:
    """The job's events numbered above `seq`, in order, at most `limit`. Numbers have no gaps. Unknown job: none."""
    query = select(Event).where(Event.job_id == job_id, Event.seq > seq).order_by(Event.seq).limit(limit)
    return session.scalars(query).all()


def artifacts(session: Session, job_id: str) -> Sequence[Artifact]:
    """The job's files by name; empty until it has succeeded. Raises: JobNotFound."""
    get(session, job_id)
    return session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)).all()


def artifact(session: Session, job_id: str, name: str) -> Artifact:
    """Raises: JobNotFound, ArtifactNotFound."""
    get(session, job_id)
    found = session.get(Artifact, (job_id, name))
    if found is None:
        raise ArtifactNotFound(job_id, name)
    return found


def report(session: Session, job_id: str) -> Artifact:
    """The artifact that is the job's report. Raises: JobNotFound, ReportNotReady."""
    job = get(session, job_id)
    if job.state is not State.SUCCEEDED:
        raise ReportNotReady(job_id, job.state)
    return artifact(session, job_id, REPORT_FILE)


def claim(session: Session, owner: str, lease_s: float) -> Job | None:
    """Take the best job that is due, or None. One UPDATE: of two workers, one gets it and the other the next."""
    now = _now()
    best = (
        select(Job.id)
        .where(Job.state == State.QUEUED, Job.claimable_at <= now)
        .order_by(Job.priority.desc(), Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)  # PostgreSQL; SQLite has one writer at a time and needs none
        .scalar_subquery()
    )
    job = _take(
        session,
        Job.id == best,
        Job.state == State.QUEUED,
        state=State.RUNNING,
        attempt=Job.attempt + 1,
        owner=owner,
        lease_expires_at=now + timedelta(seconds=lease_s),
    )
    if job is None:
        return None
    job.started_at = job.started_at or now
    _append(session, job, "state", {"state": State.RUNNING, "attempt": job.attempt})
    session.flush()
    return job


def renew(session: Session, job_id: str, attempt: int, lease_s: float) -> bool:
    """Keep the lease for another `lease_s` seconds. Returns: whether cancellation is requested. Raises: StaleAttempt."""
    statement = (
        update(Job)
        .where(*_fence(job_id, attempt))
        .values(lease_expires_at=_now() + timedelta(seconds=lease_s))
        .returning(Job.cancel_requested)
    )
    is_cancel_requested = session.execute(statement).scalar_one_or_none()
    if is_cancel_requested is None:
        raise StaleAttempt(job_id, attempt)
    return is_cancel_requested


PROGRESS: dict[str, tuple[InstrumentedAttribute[Any], ...]] = {
    "stage": (Job.stage,),
    "activity": (Job.activity, Job.block, Job.blocks),
    "block": (Job.block, Job.blocks, Job.fraction, Job.eta_s),
}  # what each type of event says about the job's row


def record(session: Session, job_id: str, attempt: int, event_type: str, data: dict[str, Any]) -> None:
    """Append an event and bring the progress columns up to it. Raises: StaleAttempt."""
    job = _take_running(session, job_id, attempt)
    for column in PROGRESS.get(event_type, ()):
        setattr(job, column.key, data.get(column.key))
    if event_type == "stage":
        job.activity = job.eta_s = None
    _append(session, job, event_type, data)
    session.flush()


def succeed(
    session: Session,
    job_id: str,
    attempt: int,
    files: Sequence[StoredFile],
    verdict: Outcome | None = None,
    solutions: Sequence[StoredFile] = (),
) -> Job:
    """The end as hoped: the artifact's rows, those of its solutions, and the final state, together.

    Args: verdict: of the report; a result that regressed is a success of the job all the same.
    Raises: StaleAttempt.
    """
    job = _take_running(session, job_id, attempt)
    for table, stored in ((Artifact, files), (Solution, solutions)):
        session.add_all(
            table(job_id=job_id, name=file.name, sha256=file.sha256, size_bytes=file.size_bytes, created_at=_now())
            for file in stored
        )
    job.solution_bytes = sum(file.size_bytes for file in solutions) if solutions else None
    job.fraction, job.verdict = 1.0, verdict
    return _move(session, job, State.SUCCEEDED)


def fail(session: Session, job_id: str, attempt: int, failure: Failure) -> Job:
    """End the job for a reason that another attempt would meet again. Raises: StaleAttempt."""
    return _move(session, _take_running(session, job_id, attempt), State.FAILED, failure)


def cancelled(session: Session, job_id: str, attempt: int) -> Job:
    """Confirm that the running job was stopped as its user asked. Raises: StaleAttempt."""
    return _move(session, _take_running(session, job_id, attempt), State.CANCELLED)


def retry(session: Session, job_id: str, attempt: int, reason: str, delay_s: float = 0.0) -> Job:
    """Give the job back after a fault that was not its own; it fails if this was its last attempt. Raises: StaleAttempt."""
    return _back_to_queue(session, _take_running(session, job_id, attempt), reason, delay_s)


def hand_back(session: Session, job_id: str, attempt: int) -> Job:
    """Give the job back because this worker shuts down; the attempt is not counted against it. Raises: StaleAttempt."""
    job = _take_running(session, job_id, attempt)
    job.max_attempts += 1  # the attempt itself is the fence and must not fall
    return _back_to_queue(session, job, "The worker was shut down and gave the job back.")


def requeue_expired(session: Session, now: datetime) -> list[Job]:
    """Take jobs away from workers whose lease has run out: back to the queue, or failed after the last attempt."""
    expired = select(Job.id, Job.attempt).where(Job.state == State.RUNNING, Job.lease_expires_at < now)
    expired = expired.order_by(Job.id)  # two sweepers lock in one order
    taken = []
    for job_id, attempt in session.execute(expired).all():
        job = _take(session, *_fence(job_id, attempt), Job.lease_expires_at < now)
        if job is not None:
            taken.append(_back_to_queue(session, job, "The worker was not heard of until its lease ran out."))
    return taken


def _back_to_queue(session: Session, job: Job, reason: str, delay_s: float = 0.0) -> Job:
    """What becomes of a job whose attempt ended without a result."""
    if job.cancel_requested:
        return _move(session, job, State.CANCELLED)
    if job.attempt >= job.max_attempts:
        detail = f"Attempt {job.attempt} of {job.max_attempts} was the last. {reason}"
        return _move(session, job, State.FAILED, Failure(type=ATTEMPTS_EXHAUSTED, title="No attempt is left", detail=detail))
    job.claimable_at = _now() + timedelta(seconds=delay_s)
    session.add(Ring(job_id=job.id, due_at=job.claimable_at))
    return _move(session, job, State.QUEUED, reason=reason)


def _move(session: Session, job: Job, to: State, failure: Failure | None = None, reason: str | None = None) -> Job:
    """The one place where a job that is held by `_take` changes its state; only `claim` does so by itself.

    Raises: IllegalTransition.
    """
    if to not in TRANSITIONS[job.state]:
        raise IllegalTransition(job.id, job.state, to)
    job.state = to
    job.owner = job.lease_expires_at = job.stage = job.activity = job.eta_s = None
    data: dict[str, Any] = {"state": to, "attempt": job.attempt}
    if to in FINAL:
        job.finished_at = _now()
        job.cancel_requested = False
    if failure is not None:
        job.error = data["error"] = failure.model_dump()
    if reason is not None:
        data["reason"] = reason
    if job.verdict is not None:
        data["verdict"] = job.verdict
    _append(session, job, "state", data)
    session.flush()
    return job


def _fence(job_id: str, attempt: int) -> tuple[ColumnElement[bool], ...]:
    return Job.id == job_id, Job.attempt == attempt, Job.state == State.RUNNING


def _take_running(session: Session, job_id: str, attempt: int) -> Job:
    job = _take(session, *_fence(job_id, attempt))
    if job is None:
        raise StaleAttempt(job_id, attempt)
    return job


def _take(session: Session, *where: ColumnElement[bool], **values: Any) -> Job | None:
    """Lock the one row that fits, change it, and number its next event. The caller appends exactly that one event."""
    statement = (
        update(Job)
        .where(*where)
        .values(last_seq=Job.last_seq + 1, updated_at=_now(), **values)
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    return session.scalars(statement).one_or_none()


def _append(session: Session, job: Job, event_type: str, data: dict[str, Any]) -> None:
    session.add(
        Event(job_id=job.id, seq=job.last_seq, type=event_type, data=data, attempt=job.attempt, created_at=job.updated_at)
    )


def _now() -> datetime:
    return datetime.now(UTC)
