"""Other formats of a finished job, without solving again."""

from fastapi import APIRouter, status

from api.auth import AsTenant, Reader, Writer
from api.context import InContext
from api.idempotency import Once
from api.openapi import refusals
from api.pages import Cursor, Limit, Page, page_of
from jobs import repository
from jobs.access import audit
from jobs.access.quotas import check_submit
from jobs.exports import ExportRequest, check_export, find_exportable, submit_export
from jobs.limits import run_limit_s
from jobs.pages import DEFAULT_PAGE
from jobs.view import JobView, job_view

router = APIRouter(prefix="/v1/jobs", tags=["exports"])


@router.post("/{job_id}/exports", status_code=status.HTTP_202_ACCEPTED, responses=refusals(409, 410))
def export(
    job_id: str, request: ExportRequest, caller: Writer, as_tenant: AsTenant, context: InContext, once: Once
) -> JobView:
    """Queue an export of the job's solutions to another format: a job of its own, its `Location` in the answer."""
    with context.sessions() as session:
        found = find_exportable(session, caller.tenant_id, context.store, job_id)
    limit_s = run_limit_s(request.limits, context.settings)
    forecast = check_export(context.sessions, found, request, as_tenant)
    with context.sessions.begin() as session:
        check_submit(session, caller.tenant_id, context.settings)
        job = submit_export(session, found, request, forecast, context.settings.max_attempts, limit_s)
        audit.record(session, caller, "job.export", job.id)
        view = job_view(job)
        return once.answer(session, view, view.links.self)


@router.get("/{job_id}/exports")
def list_exports(
    job_id: str, caller: Reader, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[JobView]:
    """The exports of a job, the newest first."""
    with context.sessions() as session:
        return page_of(job_view, repository.children_of(session, caller.tenant_id, job_id, "export", cursor, limit))
