"""Submitting and finding jobs, and what their users may ask of them; functions on a session, the caller commits."""

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session
from ulid import ULID

from compression.formats.sizes import Forecast
from compression.manifest import REPORT_FILE
from compression.recipe import ResolvedRecipe
from jobs import transitions
from jobs.errors import (
    ArtifactGone,
    ArtifactNotFound,
    ArtifactsExpired,
    ArtifactsNotReady,
    IllegalTransition,
    JobNotFound,
    ReportNotReady,
)
from jobs.facets import MODEL, add_facets, found_by, renew_facets
from jobs.needs import need_of
from jobs.pages import DEFAULT_PAGE, Page, read_page
from jobs.references import refer
from jobs.request import LABEL_KEY_PATTERN, JobRequest
from jobs.scope import is_owned, owned, owned_row
from jobs.states import FINAL, State, Task
from jobs.tables import Artifact, Event, Facet, Job, Ring
from jobs.watching.tracing import current_traceparent

NEWEST_FIRST = (Job.created_at, Job.id)  # read in descending order


def submit(
    session: Session,
    tenant_id: str,
    request: JobRequest,
    resolved: ResolvedRecipe | None,
    *,
    max_attempts: int,
    forecast: Forecast | None = None,
    estimate: dict[str, Any] | None = None,
    run_limit_s: float | None = None,
) -> Job:
    """Queue a compression or an evaluation.

    Args:
        resolved: what `check_request` returned.
        estimate: an `Estimate`, dumped.
        run_limit_s: what `limits.run_limit_s` did.
    Raises: SourceError: it names a data set or an upload that the tenant does not have.
    """
    job = enqueue(
        session,
        tenant_id=tenant_id,
        task=request.task,
        need=need_of(request.device),
        model=request.model,
        request=request.model_dump(mode="json", exclude_unset=True),
        recipe={} if resolved is None or request.goal is not None else resolved.model_dump(mode="json"),
        labels=dict(request.labels),
        forecast=forecast and forecast.model_dump(),
        estimate=estimate,
        priority=request.priority,
        max_attempts=max_attempts,
        run_limit_s=run_limit_s,
    )
    models = [request.model] if request.reference is None else [request.model, request.reference]
    refer(session, job, models, [use.source for use in request.text_uses], labelled=request.evaluation.labelled)
    return job


def enqueue(session: Session, **fields: Any) -> Job:
    """Write a job, its first event and the ring that will wake a worker, to be committed together.

    Args: fields: of the row: tenant_id, task, model, request, recipe, labels, max_attempts and whatever else that task has.
    """
    now = transitions.now()
    job = Job(
        id=str(ULID.from_datetime(now)),
        state=State.QUEUED,
        attempt=0,
        last_seq=1,
        claimable_at=now,
        created_at=now,
        updated_at=now,
        trace=current_traceparent(),
        **fields,
    )
    session.add(job)
    session.flush()
    session.add(Ring(job_id=job.id, due_at=now))
    add_facets(session, job)
    transitions.append(session, job, "state", {"state": State.QUEUED, "attempt": 0})
    session.flush()
    return job


def get(session: Session, tenant_id: str, job_id: str) -> Job:
    """Raises: JobNotFound: also where it is another tenant's."""
    job = owned_row(session, Job, tenant_id, job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


def find(session: Session, job_id: str) -> Job:
    """For the service itself, whoever owns the job. Raises: JobNotFound."""
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise JobNotFound(job_id)
    return job


def list_jobs(
    session: Session,
    tenant_id: str,
    *,
    state: State | None = None,
    model: str | None = None,
    label: tuple[str, str] | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_PAGE,
) -> Page[Job]:
    """One page of jobs, newest first, that match every filter given.

    Args:
        label: (key, value) that the job must carry.
        cursor, limit: as `read_page`.
    Raises: InvalidCursor.
    """
    if "\0" in f"{model or ''}{label[1] if label else ''}":
        return Page([], None)  # no job can carry it, and PostgreSQL refuses to be asked
    query, order = owned(Job, tenant_id), NEWEST_FIRST
    if state is not None:
        query = query.where(Job.state == state)
    if model is not None:
        query = query.where(Job.model == model)
    if label is not None and not re.fullmatch(LABEL_KEY_PATTERN, label[0]):
        return Page([], None)  # no job can carry it, and the name may be that of another facet
    if model is not None or label is not None:
        query, order = found_by(query, tenant_id, *(label or (MODEL, model or ""))), (Facet.created_at, Facet.id)
    return read_page(session, query, order, cursor, limit, descending=True)


def children_of(
    session: Session, tenant_id: str, parent_id: str, task: Task, cursor: str | None = None, limit: int = DEFAULT_PAGE
) -> Page[Job]:
    """One page of the jobs of this task that were made from a job, newest first. Raises: JobNotFound, InvalidCursor."""
    get(session, tenant_id, parent_id)
    query = owned(Job, tenant_id).where(Job.parent_id == parent_id, Job.task == task)
    return read_page(session, query, NEWEST_FIRST, cursor, limit, descending=True)


def request_cancel(session: Session, tenant_id: str, job_id: str) -> Job:
    """Cancel a waiting job at once; flag a running one, whose supervisor sees it at its next renewal.

    Raises: JobNotFound. IllegalTransition: the job has ended.
    """
    job = transitions.take(session, is_owned(Job, tenant_id), Job.id == job_id, Job.state.not_in(FINAL))
    if job is None:
        raise IllegalTransition(job_id, get(session, tenant_id, job_id).state, State.CANCELLED)
    if job.state is State.RUNNING:
        job.cancel_requested = True
        transitions.append(session, job, "note", {"level": "info", "message": "Cancellation was requested."})
    else:
        transitions.move(session, job, State.CANCELLED)
    session.flush()
    return job


def request_pause(session: Session, tenant_id: str, job_id: str) -> Job:
    """Pause a waiting job at once; flag a running one, whose supervisor stops it at the next module.

    Raises: JobNotFound. IllegalTransition: the job is paused already, or has ended.
    """
    job = transitions.take(session, is_owned(Job, tenant_id), Job.id == job_id, Job.state.in_([State.QUEUED, State.RUNNING]))
    if job is None:
        raise IllegalTransition(job_id, get(session, tenant_id, job_id).state, State.PAUSED)
    if job.state is State.RUNNING:
        job.pause_requested = True
        transitions.append(session, job, "note", {"level": "info", "message": "A pause was requested."})
    else:
        transitions.move(session, job, State.PAUSED)
    session.flush()
    return job


def resume(session: Session, tenant_id: str, job_id: str) -> Job:
    """Queue a paused job again, or take back the request where the pause has not come into force.

    Raises: JobNotFound. IllegalTransition: the job is not paused.
    """
    is_to_pause = and_(Job.state == State.RUNNING, Job.pause_requested)
    job = transitions.take(session, is_owned(Job, tenant_id), Job.id == job_id, or_(Job.state == State.PAUSED, is_to_pause))
    if job is None:
        raise IllegalTransition(job_id, get(session, tenant_id, job_id).state, State.QUEUED)
    if job.state is State.RUNNING:
        job.pause_requested = False
        transitions.append(session, job, "note", {"level": "info", "message": "The pause was taken back."})
        session.flush()
        return job
    job.claimable_at = transitions.now()
    session.add(Ring(job_id=job.id, due_at=job.claimable_at))
    return transitions.move(session, job, State.QUEUED)


def change(
    session: Session, tenant_id: str, job_id: str, *, labels: dict[str, str] | None = None, priority: int | None = None
) -> Job:
    """Change what is its user's own about a job; None leaves it. Raises: JobNotFound."""
    job = transitions.lock(session, tenant_id, job_id)
    if labels is not None:
        job.labels = labels
        renew_facets(session, job)
    if priority is not None:
        job.priority = priority
    job.updated_at = transitions.now()
    session.flush()
    return job


def events_after(session: Session, job_id: str, seq: int, limit: int = 1000) -> Sequence[Event]:
    """The job's events numbered above `seq`, in order, at most `limit`. Numbers have no gaps. Unknown job: none."""
    query = select(Event).where(Event.job_id == job_id, Event.seq > seq).order_by(Event.seq).limit(limit)
    return session.scalars(query).all()


def newest_event(session: Session, job_id: str, kind: str) -> Event | None:
    """The job's last event of a type; None where there was none."""
    query = select(Event).where(Event.job_id == job_id, Event.type == kind).order_by(Event.seq.desc()).limit(1)
    return session.scalars(query).one_or_none()


def artifacts(session: Session, tenant_id: str, job_id: str) -> Sequence[Artifact]:
    """The job's files by name; empty until it has succeeded, the report alone once they expired. Raises: JobNotFound."""
    get(session, tenant_id, job_id)
    return session.scalars(select(Artifact).where(Artifact.job_id == job_id).order_by(Artifact.name)).all()


def artifact_page(
    session: Session, tenant_id: str, job_id: str, cursor: str | None = None, limit: int = DEFAULT_PAGE
) -> Page[Artifact]:
    """The same in pages. Raises: JobNotFound, InvalidCursor."""
    get(session, tenant_id, job_id)
    return read_page(session, select(Artifact).where(Artifact.job_id == job_id), (Artifact.name,), cursor, limit)


def artifact(session: Session, tenant_id: str, job_id: str, name: str) -> Artifact:
    """Raises: JobNotFound, ArtifactNotFound. ArtifactGone, ArtifactsExpired: it may have been among those that are gone."""
    job = get(session, tenant_id, job_id)
    found = None if "\0" in name else session.get(Artifact, (job_id, name))  # PostgreSQL fails at a zero byte
    if found is None:
        _check_kept(job)
        raise ArtifactNotFound(job_id, name)
    return found


def complete_artifacts(session: Session, tenant_id: str, job_id: str) -> Sequence[Artifact]:
    """All files of a job that has succeeded, by name.

    Raises: JobNotFound, ArtifactsNotReady, ArtifactGone, ArtifactsExpired.
    """
    job = get(session, tenant_id, job_id)
    _check_kept(job)
    found = artifacts(session, tenant_id, job_id)
    if not found:
        raise ArtifactsNotReady(job_id, job.state)
    return found


def _check_kept(job: Job) -> None:
    """Raises: ArtifactGone: users deleted the job's files. ArtifactsExpired: this server's policy did."""
    if job.artifacts_deleted_at is not None:
        raise ArtifactGone(job.id)
    if job.artifacts_expired_at is not None:
        raise ArtifactsExpired(job.id, job.artifacts_expired_at)


def report(session: Session, tenant_id: str, job_id: str) -> Artifact:
    """The artifact that is the job's report. Raises: JobNotFound, ReportNotReady."""
    job = get(session, tenant_id, job_id)
    if job.state is not State.SUCCEEDED:
        raise ReportNotReady(job_id, job.state)
    return artifact(session, tenant_id, job_id, REPORT_FILE)
