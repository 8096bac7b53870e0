"""Many recipes on one model, as jobs that belong together."""

from functools import lru_cache

from fastapi import APIRouter, status
from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.auth import AsTenant, Reader, Writer
from api.context import Context, InContext
from api.idempotency import Once
from api.pages import Cursor, Limit, Page, page_of
from compression.errors import InvalidOptions
from compression.figures import Figures, figures
from compression.report import Report
from jobs import repository, sweeps
from jobs.access import audit
from jobs.access.quotas import check_submit
from jobs.errors import ArtifactNotFound
from jobs.estimating.foretelling import foretell, refuse_misfits
from jobs.limits import run_limit_s
from jobs.pages import DEFAULT_PAGE
from jobs.request import check_request
from jobs.states import State
from jobs.store.artifacts import ArtifactStore
from jobs.sweep_request import SweepRequest, job_requests
from jobs.sweep_table import Sweep
from jobs.sweep_view import SweepSummary, SweepView, summary, sweep_view
from jobs.tables import Job
from jobs.uploads.brought import Brought

router = APIRouter(prefix="/v1/sweeps", tags=["sweeps"])


@router.post("", status_code=status.HTTP_202_ACCEPTED)
def submit(request: SweepRequest, caller: Writer, as_tenant: AsTenant, context: InContext, once: Once) -> SweepView:
    """Queue a job for each recipe and goal, all of them or none. What they share is computed by the first and kept."""
    asked, left_out = job_requests(request)
    limit_s = run_limit_s(request.limits, context.settings)
    brought = Brought(context.sessions, caller.tenant_id)
    checked = []
    recipes = sum(one.goal is None for one in asked)
    for number, one in enumerate(asked):
        try:
            resolved = check_request(one)
            checked.append((one, resolved, foretell(one, resolved, as_tenant, brought)))
        except InvalidOptions as error:
            place = f"recipes.{number}" if one.goal is None else f"goals.{number - recipes}"
            raise InvalidOptions(f"{place}.{error.field}", error.reason, error.allowed) from error
    with context.sessions.begin() as session:
        sweep = sweeps.begin(session, caller.tenant_id, request, left_out)
        for position, (one, resolved, foretold) in enumerate(checked):
            estimate, misfits = foretold.on_this_server(session, context.settings)
            refuse_misfits(misfits)
            check_submit(session, caller.tenant_id, context.settings)
            job = repository.submit(
                session,
                caller.tenant_id,
                one,
                resolved,
                max_attempts=context.settings.max_attempts,
                forecast=foretold.forecast,
                estimate=estimate.stored(),
                run_limit_s=limit_s,
            )
            sweeps.add_point(session, sweep, job, position)
        audit.record(session, caller, "sweep.submit", sweep.id)
        view = sweep_view(sweep, sweeps.jobs_of(session, sweep), {})
        return once.answer(session, view, f"/v1/sweeps/{sweep.id}")


@router.get("")
def list_sweeps(caller: Reader, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Page[SweepSummary]:
    """Sweeps, the newest first."""
    with context.sessions() as session:
        found = sweeps.list_sweeps(session, caller.tenant_id, cursor, limit)
        return page_of(lambda sweep: summary(sweep, sweeps.jobs_of(session, sweep)), found)


@router.get("/{sweep_id}")
def read_sweep(sweep_id: str, caller: Reader, context: InContext) -> SweepView:
    """One sweep: every point with its figures as far as it is, and which of them no other beats."""
    with context.sessions() as session:
        sweep = sweeps.get(session, caller.tenant_id, sweep_id)
        jobs = sweeps.jobs_of(session, sweep)
        return sweep_view(
            sweep, jobs, _figures(session, context, sweep, [job for job in jobs if job.state is State.SUCCEEDED])
        )


@router.delete("/{sweep_id}", status_code=status.HTTP_204_NO_CONTENT)
def forget_sweep(sweep_id: str, caller: Writer, context: InContext) -> None:
    """Remove the sweep and leave its jobs, each of which goes on."""
    with context.sessions.begin() as session:
        sweeps.forget(session, caller.tenant_id, sweep_id)
        audit.record(session, caller, "sweep.forget", sweep_id)


def _figures(session: Session, context: Context, sweep: Sweep, jobs: list[Job]) -> dict[str, Figures]:
    """By job, of those whose report this version reads."""
    found = {}
    for job in jobs:
        try:
            artifact = repository.report(session, sweep.tenant_id, job.id)
        except ArtifactNotFound:
            continue
        numbers = _numbers(context.store, artifact.sha256)
        if numbers is not None:
            found[job.id] = numbers
    return found


@lru_cache(maxsize=4096)
def _numbers(store: ArtifactStore, sha256: str) -> Figures | None:
    """Of the report with this hash, which never changes; None: another version of Scalpel wrote it."""
    try:
        return figures(Report.model_validate_json(b"".join(store.stream(sha256))))
    except ValidationError:
        return None
