"""Other formats of a finished job, without solving again."""

from fastapi import APIRouter, Response, status

from api.context import InContext
from jobs.exports import ExportRequest, check_export, exports_of, find_exportable, submit_export
from jobs.view import JobView, job_view

router = APIRouter(prefix="/v1/jobs", tags=["exports"])


@router.post("/{job_id}/exports", status_code=status.HTTP_202_ACCEPTED)
def export(job_id: str, request: ExportRequest, context: InContext, response: Response) -> JobView:
    """Queue an export of the job's solutions to another format: a job of its own, its `Location` in the answer."""
    with context.sessions() as session:
        found = find_exportable(session, context.store, job_id)
    forecast = check_export(found, request, context.settings)
    with context.sessions.begin() as session:
        view = job_view(submit_export(session, found, request, forecast, context.settings.max_attempts))
    response.headers["Location"] = view.links.self
    return view


@router.get("/{job_id}/exports")
def list_exports(job_id: str, context: InContext) -> tuple[JobView, ...]:
    """The exports of a job, the newest first."""
    with context.sessions() as session:
        return tuple(map(job_view, exports_of(session, job_id)))
