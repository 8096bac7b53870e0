"""One job: its progress while it runs, its report when it is done, and what may be done with it."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool

from api.auth import AsTenant, Reader, Writer
from api.browser import form_of
from api.context import Context, InContext
from api.dashboard import publish_form
from api.dashboard.pages import checked, go_to, page_router, show
from api.dashboard.reports import read_report
from api.dashboard.snippets import loading_snippets
from api.idempotency import Once, OneRequest
from api.problems import Problem, refusal_of
from api.routes import artifacts, exports, jobs, publications
from compression.errors import InvalidOptions
from compression.formats.catalog import FORMATS
from compression.page import fragment
from jobs import repository
from jobs.access.keys import Caller
from jobs.exports import ExportRequest
from jobs.pages import MAX_PAGE
from jobs.publications import PublicationRequest, allowed_buckets
from jobs.request import JobRequest
from jobs.states import FINAL, State
from jobs.view import JobView

router = page_router()

INLINE_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; frame-ancestors 'none'"
REPORT_PAGE = "report.html"


@router.get("/jobs/{job_id}")
def job_page(request: Request, job_id: str, caller: Reader, context: InContext) -> Response:
    return show(request, "job.html", **_found(job_id, caller, context))


@router.get("/jobs/{job_id}/status")
def status(request: Request, job_id: str, caller: Reader, context: InContext) -> Response:
    """The part of the page that changes while the job runs."""
    return show(request, "parts/job_status.html", job=jobs.read_job(job_id, caller, context, Response()), **_state(caller))


@router.post("/jobs/{job_id}/cancel")
def cancel(request: Request, job_id: str, caller: Writer, context: InContext, once: Once) -> Response:
    return _acted(request, jobs.cancel, job_id, caller, context, once)


@router.post("/jobs/{job_id}/pause")
def pause(request: Request, job_id: str, caller: Writer, context: InContext, once: Once) -> Response:
    return _acted(request, jobs.pause, job_id, caller, context, once)


@router.post("/jobs/{job_id}/resume")
def resume(request: Request, job_id: str, caller: Writer, context: InContext, once: Once) -> Response:
    return _acted(request, jobs.resume, job_id, caller, context, once)


@router.post("/jobs/{job_id}/retry")
def retry(request: Request, job_id: str, caller: Writer, as_tenant: AsTenant, context: InContext, once: Once) -> Response:
    """The same request once more, as a new job."""
    before = jobs.read_job(job_id, caller, context, Response())
    again = (
        exports.export(before.parent, ExportRequest.model_validate(before.request), caller, as_tenant, context, once)
        if before.task == "export" and before.parent
        else jobs.submit(checked(JobRequest, before.request), caller, as_tenant, context, once)
    )
    return go_to(request, f"/jobs/{again.id}")


@router.post("/jobs/{job_id}/export")
def export(request: Request, job_id: str, caller: Writer, as_tenant: AsTenant, context: InContext, once: Once) -> Response:
    wanted = ExportRequest.model_validate({"output": _output(job_id, form_of(request).get("format", ""), caller, context)})
    made = exports.export(job_id, wanted, caller, as_tenant, context, once)
    return go_to(request, f"/jobs/{made.id}")


@router.post("/jobs/{job_id}/publish")
async def publish(request: Request, job_id: str, caller: Writer, context: InContext, once: Once) -> Response:
    """A target that is refused is shown again, on the job's page, with what was typed."""
    form = form_of(request)
    try:
        asked = PublicationRequest(target=publish_form.read_target(form))
        made = await run_in_threadpool(publications.publish, job_id, asked, caller, context, once)
    except (RequestValidationError, InvalidOptions) as error:
        refused = (await refusal_of(request, error)).problem
        found = await run_in_threadpool(_found, job_id, caller, context, dict(form), refused)
        return show(request, "job.html", status=refused.status, **found)
    return go_to(request, f"/jobs/{made.id}")


@router.post("/jobs/{job_id}/delete")
def delete(request: Request, job_id: str, caller: Writer, context: InContext) -> Response:
    jobs.delete(job_id, caller, context)
    return go_to(request, "/jobs")


@router.get("/jobs/{job_id}/report.html")
def read_report_page(job_id: str, caller: Reader, context: InContext) -> Response:
    """The report as a page of its own, which may load and run nothing, and is of no origin."""
    with context.sessions() as session:
        file = repository.artifact(session, caller.tenant_id, job_id, REPORT_PAGE)
    content = b"".join(context.store.stream(file.sha256))
    return Response(content, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": INLINE_POLICY})


def _acted(
    request: Request, act: Callable[..., JobView], job_id: str, caller: Caller, context: Context, once: OneRequest
) -> Response:
    act(job_id, caller, context, once)
    return go_to(request, f"/jobs/{job_id}")


def _found(
    job_id: str,
    caller: Caller,
    context: Context,
    publish_typed: Mapping[str, str] = publish_form.FIRST,
    publish_refused: Problem | None = None,
) -> dict[str, Any]:
    job = jobs.read_job(job_id, caller, context, Response())
    files = artifacts.list_artifacts(job_id, caller, context, limit=MAX_PAGE).items
    report, problem = read_report(job, caller, context)
    return {
        "job": job,
        "files": files,
        "has_report_page": any(file.name == REPORT_PAGE for file in files),
        "problem": problem,
        "report": None if report is None else fragment(report),
        "snippets": loading_snippets(job, report) if len(files) > 1 else (),
        "exports": exports.list_exports(job_id, caller, context).items,
        "formats": tuple(FORMATS) if job.solution_bytes is not None else (),
        "publications": publications.list_publications(job_id, caller, context, limit=MAX_PAGE).items,
        "can_publish": job.task in ("compress", "export") and job.state is State.SUCCEEDED and len(files) > 1,
        "buckets": allowed_buckets(context.settings, caller.tenant_id),
        "publish_typed": publish_typed,
        "publish_refused": publish_refused,
        **_state(caller),
    }


def _state(caller: Caller) -> dict[str, Any]:
    return {"is_final": lambda job: State(job.state) in FINAL, "may_write": "write" in caller.scopes}


def _output(job_id: str, name: str, caller: Caller, context: Context) -> dict[str, Any]:
    """What was asked for, in another format: nothing else of it may change."""
    before = jobs.read_job(job_id, caller, context, Response()).request.get("output") or {}
    return {**before, "format": name}
