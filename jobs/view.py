"""The job as it is answered to clients."""

from datetime import datetime
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from compression.formats.sizes import Forecast
from compression.recipe import ResolvedRecipe
from compression.report import Outcome
from jobs.failure import Failure
from jobs.states import State, Task
from jobs.tables import Job


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Progress(_View):
    """How far the running attempt is. Blocks that an earlier attempt finished are replayed quickly."""

    block: int | None = Field(description="Block at work, counted from 1.")
    blocks: int | None
    fraction: float | None = Field(description="Of the stage `compressing` or `evaluating`, 0 to 1.")
    eta_s: float | None = Field(description="Seconds until that stage ends, as far as can be told.")


class Links(_View):
    """Where to go from here; paths on this server."""

    self: str
    events: str
    report: str
    artifacts: str
    exports: str
    cancel: str


class JobView(_View):
    """One job."""

    id: str
    task: Task
    parent: str | None = Field(description="Of an export: the job whose solutions it writes.")
    model: str = Field(description="As its user named it.")
    state: State
    verdict: Outcome | None = Field(
        description="Of a job that has succeeded: its result is within the limits of `acceptance`, or beyond one; null where "
        "nothing was judged. The report has the figures."
    )
    stage: str | None = Field(
        description="While running: fetching, compressing, evaluating, exporting, verifying or publishing."
    )
    activity: str | None = Field(description="While compressing: loading, calibrating, solving or evaluating.")
    progress: Progress
    attempt: int = Field(description="Counts the workers that have taken the job.")
    max_attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    request: dict[str, Any] = Field(description="As sent.")
    recipe: ResolvedRecipe | None = Field(
        description="As resolved: the method chosen, the defaults filled in; null for an evaluation."
    )
    labels: dict[str, str]
    forecast: Forecast | None = Field(description="Bytes of weights, foretold at submit; null where too little was known.")
    solution_bytes: int | None = Field(description="Kept for exports to other formats; null where there are none.")
    error: Failure | None
    cancel_requested: bool = Field(description="The job is running and will be cancelled in a moment.")
    links: Links


def job_view(job: Job) -> JobView:
    """The answer for one row."""
    return JobView(
        id=job.id,
        task=job.task,
        parent=job.parent_id,
        model=job.model,
        state=job.state,
        verdict=cast("Outcome | None", job.verdict),
        stage=job.stage,
        activity=job.activity,
        progress=Progress(block=job.block, blocks=job.blocks, fraction=job.fraction, eta_s=job.eta_s),
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        updated_at=job.updated_at,
        request=job.request,
        recipe=ResolvedRecipe.model_validate(job.recipe) if job.recipe else None,
        labels=job.labels,
        forecast=None if job.forecast is None else Forecast.model_validate(job.forecast),
        solution_bytes=job.solution_bytes,
        error=None if job.error is None else Failure.model_validate(job.error),
        cancel_requested=job.cancel_requested,
        links=_links(job.id),
    )


def _links(job_id: str) -> Links:
    path = f"/v1/jobs/{job_id}"
    return Links(
        self=path,
        events=f"{path}/events",
        report=f"{path}/report",
        artifacts=f"{path}/artifacts",
        exports=f"{path}/exports",
        cancel=f"{path}/cancel",
    )
