"""Submitting, finding and cancelling jobs, and reading their reports."""

from typing import Annotated

from fastapi import APIRouter, Query, Response, status

from api.context import InContext
from api.views import JobPage
from jobs import repository
from jobs.known_model import check_against_model, known_model
from jobs.request import LABEL_KEY_PATTERN, JobRequest, check_request
from jobs.states import State
from jobs.view import JobView, job_view

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Label = Annotated[
    str | None,
    Query(
        max_length=320, pattern=LABEL_KEY_PATTERN.removesuffix("$") + ":", description="`key:value`.", examples=["team:search"]
    ),
]


@router.post("", status_code=status.HTTP_202_ACCEPTED)
def submit(request: JobRequest, context: InContext, response: Response) -> JobView:
    """Queue a compression. The answer's `Location` is the job."""
    resolved = check_request(request)
    known = known_model(request.model, context.settings) if resolved else None
    forecast = None
    if known and resolved:
        forecast = check_against_model(known, resolved, request.output, request.calibration, request.evaluation)
    with context.sessions.begin() as session:
        view = job_view(repository.submit(session, request, resolved, context.settings.max_attempts, forecast))
    response.headers["Location"] = view.links.self
    return view


@router.get("")
def list_jobs(
    context: InContext,
    state: State | None = None,
    model: Annotated[str | None, Query(max_length=1024)] = None,
    label: Label = None,
    cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=repository.MAX_PAGE)] = 50,
) -> JobPage:
    """Jobs, the newest first."""
    key, _, value = (label or "").partition(":")
    with context.sessions() as session:
        page = repository.list_jobs(
            session, state=state, model=model, label=(key, value) if label else None, cursor=cursor, limit=limit
        )
        return JobPage(jobs=tuple(map(job_view, page.jobs)), next_cursor=page.next_cursor)


@router.get("/{job_id}")
def read_job(job_id: str, context: InContext) -> JobView:
    """One job as it is now."""
    with context.sessions() as session:
        return job_view(repository.get(session, job_id))


@router.post("/{job_id}/cancel", status_code=status.HTTP_202_ACCEPTED)
def cancel(job_id: str, context: InContext) -> JobView:
    """Ask for the job's end. A queued job is cancelled at once, a running one at its worker's next heartbeat."""
    with context.sessions.begin() as session:
        return job_view(repository.request_cancel(session, job_id))


@router.get("/{job_id}/report", response_class=Response, responses={200: {"content": {"application/json": {}}}})
def read_report(job_id: str, context: InContext) -> Response:
    """The job's `report.json`."""
    with context.sessions() as session:
        report = repository.report(session, job_id)
    return Response(b"".join(context.store.stream(report.sha256)), media_type="application/json")
