"""All jobs, page by page, to be found by state, model or label, and chosen for a comparison."""

from fastapi import Request, Response

from api.auth import Reader
from api.context import InContext
from api.dashboard.pages import page_router, show
from api.pages import Cursor
from api.routes import jobs
from jobs.states import State

router = page_router()


@router.get("/jobs")
def job_list(
    request: Request,
    caller: Reader,
    context: InContext,
    state: str = "",
    model: str = "",
    label: str = "",
    cursor: Cursor = None,
) -> Response:
    wanted = State(state) if state in set(State) else None
    found = jobs.list_jobs(caller, context, state=wanted, model=model or None, label=label or None, cursor=cursor)
    asked = {"state": state, "model": model, "label": label}
    return show(request, "jobs.html", found=found, asked=asked, states=[each.value for each in State])
