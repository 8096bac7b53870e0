"""Submitting, finding, pausing and cancelling jobs, and reading their reports."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Response, status
from sqlalchemy.orm import Session

from api.auth import AsTenant, Reader, Writer
from api.context import InContext
from api.idempotency import Once, OneRequest
from api.openapi import refusals
from api.pages import Cursor, Limit, Page, page_of
from api.versions import IfMatch, IfNoneMatch, check_match, etag_of, names
from jobs import deletion, repository
from jobs.access import audit
from jobs.access.keys import Caller
from jobs.access.quotas import check_submit
from jobs.estimating.foretelling import foretell, refuse_misfits
from jobs.limits import run_limit_s
from jobs.pages import DEFAULT_PAGE
from jobs.request import LABEL_KEY_PATTERN, JobChange, JobRequest, check_request
from jobs.states import State
from jobs.tables import Job
from jobs.uploads.brought import Brought
from jobs.view import JobView, job_view

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

LABEL_PATTERN = LABEL_KEY_PATTERN.removesuffix("$") + r":[^\x00-\x1f\x7f]*$"
Label = Annotated[
    str | None, Query(max_length=320, pattern=LABEL_PATTERN, description="`key:value`.", examples=["team:search"])
]


@router.post("", status_code=status.HTTP_202_ACCEPTED)
def submit(request: JobRequest, caller: Writer, as_tenant: AsTenant, context: InContext, once: Once) -> JobView:
    """Queue a compression. The answer's `Location` is the job."""
    resolved = check_request(request)
    limit_s = run_limit_s(request.limits, context.settings)
    foretold = foretell(request, resolved, as_tenant, Brought(context.sessions, caller.tenant_id))
    with context.sessions.begin() as session:
        estimate, misfits = foretold.on_this_server(session, context.settings)
        refuse_misfits(misfits)
        check_submit(session, caller.tenant_id, context.settings)
        job = repository.submit(
            session,
            caller.tenant_id,
            request,
            resolved,
            max_attempts=context.settings.max_attempts,
            forecast=foretold.forecast,
            estimate=estimate.stored(),
            run_limit_s=limit_s,
        )
        audit.record(session, caller, "job.submit", job.id)
        view = job_view(job)
        return once.answer(session, view, view.links.self)


@router.get("")
def list_jobs(
    caller: Reader,
    context: InContext,
    state: State | None = None,
    model: Annotated[str | None, Query(max_length=1024)] = None,
    label: Label = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[JobView]:
    """Jobs, the newest first."""
    key, _, value = (label or "").partition(":")
    with context.sessions() as session:
        page = repository.list_jobs(
            session,
            caller.tenant_id,
            state=state,
            model=model,
            label=(key, value) if label else None,
            cursor=cursor,
            limit=limit,
        )
        return page_of(job_view, page)


@router.get("/{job_id}", responses={304: {"description": "The reader has the job as it is now"}})
def read_job(
    job_id: str, caller: Reader, context: InContext, response: Response, if_none_match: IfNoneMatch = None
) -> JobView:
    """One job as it is now. `ETag` tells its versions apart."""
    with context.sessions() as session:
        view = job_view(repository.get(session, caller.tenant_id, job_id))
    etag = etag_of(view)
    if if_none_match is not None and names(if_none_match, etag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers={"ETag": etag})  # type: ignore[return-value]
    response.headers["ETag"] = etag
    return view


@router.patch("/{job_id}", responses=refusals(412))
def change(
    job_id: str, request: JobChange, caller: Writer, context: InContext, response: Response, if_match: IfMatch = None
) -> JobView:
    """Change a job's labels or priority."""
    with context.sessions.begin() as session:
        check_match(session, caller.tenant_id, job_id, if_match)
        labels = None if request.labels is None else dict(request.labels)
        job = repository.change(session, caller.tenant_id, job_id, labels=labels, priority=request.priority)
        audit.record(session, caller, "job.change", job.id)
        view = job_view(job)
    response.headers["ETag"] = etag_of(view)
    return view


@router.delete("/{job_id}", status_code=status.HTTP_204_NO_CONTENT, responses=refusals(409, 412))
def delete(
    job_id: str,
    caller: Writer,
    context: InContext,
    cascade: Annotated[bool, Query(description="Its exports, too; else a job that has some is refused.")] = False,
    if_match: IfMatch = None,
) -> None:
    """Remove a job that has ended, with its events, files, report and solutions."""
    with context.sessions.begin() as session:
        check_match(session, caller.tenant_id, job_id, if_match)
        deletion.delete_job(session, caller.tenant_id, job_id, cascade=cascade)
        audit.record(session, caller, "job.delete", job_id)


@router.post("/{job_id}/cancel", status_code=status.HTTP_202_ACCEPTED, responses=refusals(409, 412))
def cancel(job_id: str, caller: Writer, context: InContext, once: Once, if_match: IfMatch = None) -> JobView:
    """Ask for the job's end. A queued job is cancelled at once, a running one at its worker's next heartbeat."""
    with context.sessions.begin() as session:
        return _acted(session, caller, once, repository.request_cancel, "job.cancel", job_id, if_match)


@router.post("/{job_id}/pause", status_code=status.HTTP_202_ACCEPTED, responses=refusals(409, 412))
def pause(job_id: str, caller: Writer, context: InContext, once: Once, if_match: IfMatch = None) -> JobView:
    """Let the job rest until it is resumed: a queued one at once, a running one within seconds. Finished blocks are kept."""
    with context.sessions.begin() as session:
        return _acted(session, caller, once, repository.request_pause, "job.pause", job_id, if_match)


@router.post("/{job_id}/resume", status_code=status.HTTP_202_ACCEPTED, responses=refusals(409, 412))
def resume(job_id: str, caller: Writer, context: InContext, once: Once, if_match: IfMatch = None) -> JobView:
    """Queue a paused job again; it continues after its last finished block."""
    with context.sessions.begin() as session:
        return _acted(session, caller, once, repository.resume, "job.resume", job_id, if_match)


@router.get(
    "/{job_id}/report", response_class=Response, responses={200: {"content": {"application/json": {}}}, **refusals(409)}
)
def read_report(job_id: str, caller: Reader, context: InContext) -> Response:
    """The job's `report.json`."""
    with context.sessions() as session:
        report = repository.report(session, caller.tenant_id, job_id)
    return Response(b"".join(context.store.stream(report.sha256)), media_type="application/json")


def _acted(
    session: Session,
    caller: Caller,
    once: OneRequest,
    act: Callable[[Session, str, str], Job],
    action: str,
    job_id: str,
    if_match: str | None,
) -> JobView:
    """What all changes of a job's state have in common; the caller commits. Args: action: as the audit calls it."""
    check_match(session, caller.tenant_id, job_id, if_match)
    job = act(session, caller.tenant_id, job_id)
    audit.record(session, caller, action, job.id)
    return once.answer(session, job_view(job))
