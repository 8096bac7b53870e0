"""Asking for a job: the form, what it would need as one types, and the job itself."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool

from api.auth import AsTenant, Reader, Writer
from api.browser import form_of
from api.context import Context, InContext
from api.dashboard import job_form
from api.dashboard.goal_fields import KINDS
from api.dashboard.pages import checked, go_to, page_router, show
from api.dashboard.snippets import request_snippets
from api.idempotency import Once
from api.problems import FieldProblem, Problem, refusal_of
from api.routes import datasets, estimates, jobs, models
from compression.errors import CompressionError
from compression.formats.catalog import FORMATS
from compression.options import METHOD_OPTIONS
from jobs.access.keys import Caller
from jobs.errors import Forbidden, JobsError, Unauthenticated
from jobs.pages import MAX_PAGE
from jobs.request import JobRequest
from jobs.uploads.model_uploads import UploadState

router = page_router()

From = Annotated[str, Query(alias="from")]
REFUSALS = (RequestValidationError, CompressionError, JobsError)


@router.get("/new")
def new_job(
    request: Request, caller: Reader, context: InContext, cloned: From = "", model: str = "", text: str = ""
) -> Response:
    """Args: cloned: a job to begin with. model: to begin with. text: to calibrate on."""
    form = dict(job_form.FIRST)
    is_whole = True
    if cloned:
        asked = jobs.read_job(cloned, caller, context, Response()).request
        form |= job_form.fill_form(asked)
        is_whole = job_form.says_all(form, asked)
    if model:
        form |= job_form.fill_form({"model": model}) | {"goal": form["goal"]}
    if text:
        form["calibration.source"] = text
    return _show(request, caller, context, form, is_whole=is_whole)


@router.post("/new/preview")
async def preview(request: Request, caller: Reader, as_tenant: AsTenant, context: InContext) -> Response:
    """What the form, as far as it is filled in, would need; and what is wrong with it, each thing at its field."""
    form = form_of(request)
    asked: dict[str, Any] = {}
    estimate, problem = None, None
    try:
        asked = job_form.read_form(form)
        if asked["model"]:
            estimate = await run_in_threadpool(estimates.estimate, checked(JobRequest, asked), caller, as_tenant, context)
    except REFUSALS as error:
        problem = await _problem(request, error)
    method = job_form.method_of(form)
    has_other_method = form.get("shown") != method
    return show(
        request,
        "parts/preview.html",
        asked=asked,
        estimate=estimate,
        chosen_format=form.get("output.format", "dense"),
        problem=problem,
        errors=_by_place(problem, method),
        places=list(job_form.places(None if has_other_method else method)),
        snippets=request_snippets(asked, str(request.base_url).rstrip("/")) if asked else (),
        method=method,
        has_other_method=has_other_method,
        **_method(form, method),
    )


@router.post("/new")
async def submit(request: Request, caller: Writer, as_tenant: AsTenant, context: InContext, once: Once) -> Response:
    form = form_of(request)
    try:
        asked = checked(JobRequest, job_form.read_form(form))
        job = await run_in_threadpool(jobs.submit, asked, caller, as_tenant, context, once)
    except REFUSALS as error:
        problem = await _problem(request, error)
        return await run_in_threadpool(_show, request, caller, context, dict(form), problem)
    return go_to(request, f"/jobs/{job.id}")


async def _problem(request: Request, error: Exception) -> Problem:
    """Raises: what is no refusal of the form, such as a missing scope."""
    if isinstance(error, Unauthenticated | Forbidden):
        raise error
    return (await refusal_of(request, error)).problem


def _by_place(problem: Problem | None, method: str) -> dict[str, FieldProblem]:
    """What is wrong, by the field that it is shown at: the nearest that the form has. The rest stands in the summary."""
    if problem is None:
        return {}
    places = set(job_form.places(method))
    found: dict[str, FieldProblem] = {}
    for error in problem.errors:
        path = error.field
        while path and path not in places:
            path = path.rpartition(".")[0]
        if path:
            found[path] = error
    if not problem.errors and problem.type in ("source-error", "unsupported-model"):
        found["model"] = FieldProblem(field="model", detail=problem.detail or problem.title)
    return found


def _method(form: Mapping[str, str], method: str) -> dict[str, Any]:
    return {
        "fields": job_form.recipe_fields(method),
        "also": job_form.ALSO_RECIPE,
        "good_for": METHOD_OPTIONS[method].good_for,
        "form": form,
    }


def _show(
    request: Request,
    caller: Caller,
    context: Context,
    form: dict[str, str],
    problem: Problem | None = None,
    is_whole: bool = True,
) -> Response:
    known = models.list_models(caller, context, limit=MAX_PAGE).items
    method = job_form.method_of(form)
    return show(
        request,
        "new_job.html",
        status=200 if problem is None else problem.status,
        demos=[model for model in known if model.kind == "demo"],
        uploads=[model for model in known if model.kind == "upload" and model.state is UploadState.READY],
        has_roots=bool(context.settings.model_roots),
        texts=[*job_form.TEXTS, *(f"{found.source}" for found in datasets.list_datasets(caller, context).items)],
        goals=job_form.GOALS,
        goal_kinds=KINDS,
        patterns=job_form.pattern_choices(form.get("recipe.pattern", "")),
        bits=job_form.BITS,
        formats=FORMATS.values(),
        methods=[(name, options.good_for) for name, options in METHOD_OPTIONS.items()],
        groups=job_form.GROUPS,
        overrides=job_form.OVERRIDES,
        method=method,
        problem=problem,
        is_whole=is_whole,
        errors=_by_place(problem, method),
        may_write="write" in caller.scopes,
        **_method(form, method),
    )
