"""Several jobs side by side: their figures in one table, and quality against bytes and time in pictures."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from api.auth import Reader
from api.context import Context, InContext
from api.dashboard.pages import go_to, page_router, show
from api.dashboard.pareto import Contender, pictures
from api.dashboard.reports import read_report
from api.routes import jobs, sweeps
from compression.report import Report
from jobs.access.keys import Caller
from jobs.states import State

router = page_router()

MOST = 48  # reports are read for it, and a picture holds no more
Chosen = Annotated[list[str] | None, Query(alias="job", max_length=100)]
Model = Annotated[str | None, Query(max_length=1024)]


@router.get("/compare")
def compare(request: Request, caller: Reader, context: InContext, chosen: Chosen = None, model: Model = None) -> Response:
    """The chosen jobs, and with `model` the newest results of it all."""
    wanted = list(dict.fromkeys([*(chosen or ()), *(_results(model, caller, context) if model else ())]))
    contenders: list[Contender] = []
    for job_id in wanted:
        if len(contenders) == MOST:
            break
        job = jobs.read_job(job_id, caller, context, Response())
        report, _ = read_report(job, caller, context)
        contenders.append(Contender(job, report if isinstance(report, Report) else None))
    return show(
        request,
        "compare.html",
        contenders=contenders,
        pictures=pictures(contenders),
        are_faster=any(contender.speedup is not None for contender in contenders),
        models=sorted({contender.job.model for contender in contenders}),
        is_cut=len(wanted) > MOST,
        most=MOST,
        may_write="write" in caller.scopes,
    )


def _results(model: str, caller: Caller, context: Context) -> list[str]:
    """Ids of jobs that made something of this model, the newest first; one more than are shown."""
    found = jobs.list_jobs(caller, context, State.SUCCEEDED, model, limit=MOST + 1).items
    return [job.id for job in found if job.task != "evaluate"]


@router.get("/sweeps/{sweep_id}")
def compare_sweep(request: Request, sweep_id: str, caller: Reader, context: InContext) -> Response:
    """The points of a sweep side by side."""
    points = sweeps.read_sweep(sweep_id, caller, context).points
    return go_to(request, f"/compare?{urlencode([('job', point.job_id) for point in points])}")
