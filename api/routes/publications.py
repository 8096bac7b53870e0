"""A finished job's files, brought to the hub or to a bucket."""

from fastapi import APIRouter, status

from api.auth import Reader, Writer
from api.context import InContext
from api.idempotency import Once
from api.openapi import refusals
from api.pages import Cursor, Limit, Page, page_of
from jobs import repository
from jobs.access import audit
from jobs.access.quotas import check_submit
from jobs.limits import Limits, run_limit_s
from jobs.pages import DEFAULT_PAGE
from jobs.publications import PublicationRequest, check_target, find_publishable, submit_publication
from jobs.view import JobView, job_view

router = APIRouter(prefix="/v1/jobs", tags=["publications"])


@router.post("/{job_id}/publications", status_code=status.HTTP_202_ACCEPTED, responses=refusals(409, 410))
def publish(job_id: str, request: PublicationRequest, caller: Writer, context: InContext, once: Once) -> JobView:
    """Queue the upload of the job's files: a job of its own, its `Location` in the answer. Its `publication` is the result."""
    settings = context.settings
    with context.sessions.begin() as session:
        parent = find_publishable(session, caller.tenant_id, job_id)
        check_target(session, settings, caller.tenant_id, request.target)
        check_submit(session, caller.tenant_id, settings)
        limit_s = run_limit_s(Limits(), settings)
        job = submit_publication(session, parent, request, settings.max_attempts, run_limit_s=limit_s)
        audit.record(session, caller, "job.publish", job.id)
        view = job_view(job)
        return once.answer(session, view, view.links.self)


@router.get("/{job_id}/publications")
def list_publications(
    job_id: str, caller: Reader, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[JobView]:
    """The publications of a job, the newest first."""
    with context.sessions() as session:
        return page_of(job_view, repository.children_of(session, caller.tenant_id, job_id, "publish", cursor, limit))
