"""Several jobs side by side: their figures in one table, and quality against bytes in one picture."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from api.auth import Reader
from api.context import InContext
from api.dashboard.pages import go_to, page_router, show
from api.dashboard.pareto import Contender, pareto
from api.dashboard.reports import read_report
from api.routes import jobs, sweeps
from compression.report import Report

router = page_router()

MOST = 24  # reports are read for it, and a picture holds no more
Chosen = Annotated[list[str] | None, Query(alias="job", max_length=100)]


@router.get("/compare")
def compare(request: Request, caller: Reader, context: InContext, chosen: Chosen = None) -> Response:
    contenders: list[Contender] = []
    for job_id in dict.fromkeys(chosen or ()):
        if len(contenders) == MOST:
            break
        job = jobs.read_job(job_id, caller, context, Response())
        report, _ = read_report(job, caller, context)
        contenders.append(Contender(job, report if isinstance(report, Report) else None))
    return show(
        request,
        "compare.html",
        contenders=contenders,
        picture=pareto(contenders),
        models=sorted({contender.job.model for contender in contenders}),
        is_cut=len(set(chosen or ())) > MOST,
        most=MOST,
        may_write="write" in caller.scopes,
    )


@router.get("/sweeps/{sweep_id}")
def compare_sweep(request: Request, sweep_id: str, caller: Reader, context: InContext) -> Response:
    """The points of a sweep side by side."""
    points = sweeps.read_sweep(sweep_id, caller, context).points
    return go_to(request, f"/compare?{urlencode([('job', point.job_id) for point in points])}")
