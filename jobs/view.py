"""The job as it is answered to clients."""

from datetime import UTC, datetime
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from compression.formats.sizes import Forecast
from compression.recipe import ResolvedRecipe
from compression.report import Outcome
from jobs.estimating.estimates import Estimate
from jobs.failure import Failure
from jobs.limits import running_s
from jobs.publications import Published
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
    publications: str
    cancel: str
    pause: str
    resume: str


class JobView(_View):
    """One job."""

    id: str
    task: Task
    parent: str | None = Field(description="Of an export: the job whose solutions it writes.")
    sweep: str | None = Field(description="The sweep that it is a point of.")
    database: str | None = Field(description="The model database that its goal's levels were chosen from.")
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
    running_s: float = Field(description="Seconds that workers have held the job, all attempts together.")
    run_limit_s: float | None = Field(description="What `running_s` may reach; null: no limit.")
    attempt: int = Field(description="Counts the workers that have taken the job.")
    max_attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    request: dict[str, Any] = Field(description="As sent.")
    recipe: ResolvedRecipe | None = Field(
        description="As resolved: the method chosen, the defaults filled in; null for an evaluation, and for a goal, "
        "whose report tells what was chosen."
    )
    labels: dict[str, str]
    priority: int = Field(description="Jobs of a higher one are taken first.")
    forecast: Forecast | None = Field(description="Bytes of weights, foretold at submit; null where too little was known.")
    estimate: Estimate | None = Field(description="What it was expected to need, at submit; null for an export.")
    solution_bytes: int | None = Field(description="Kept for exports to other formats; null where there are none.")
    artifacts_expired_at: datetime | None = Field(
        description="When its files, all but the report, were removed by this server's policy; null while they are kept."
    )
    artifacts_deleted_at: datetime | None = Field(description="Since then only the report is left of its files.")
    publication: Published | None = Field(description="Of a publication that has succeeded: where the files are.")
    error: Failure | None
    cancel_requested: bool = Field(description="The job is running and will be cancelled in a moment.")
    pause_requested: bool = Field(description="The job is running and will be paused in a moment.")
    links: Links


def job_view(job: Job) -> JobView:
    """The answer for one row."""
    return JobView(
        id=job.id,
        task=job.task,
        parent=job.parent_id,
        sweep=job.sweep_id,
        database=job.database_id,
        model=job.model,
        state=job.state,
        verdict=cast("Outcome | None", job.verdict),
        stage=job.stage,
        activity=job.activity,
        progress=Progress(block=job.block, blocks=job.blocks, fraction=job.fraction, eta_s=job.eta_s),
        running_s=running_s(job, datetime.now(UTC)),
        run_limit_s=job.run_limit_s,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        updated_at=job.updated_at,
        request=job.request,
        recipe=ResolvedRecipe.model_validate(job.recipe) if job.recipe else None,
        labels=job.labels,
        priority=job.priority,
        forecast=None if job.forecast is None else Forecast.model_validate(job.forecast),
        estimate=None if job.estimate is None else Estimate.model_validate(job.estimate),
        solution_bytes=job.solution_bytes,
        artifacts_expired_at=job.artifacts_expired_at,
        artifacts_deleted_at=job.artifacts_deleted_at,
        publication=None if job.publication is None else Published.model_validate(job.publication),
        error=None if job.error is None else Failure.model_validate(job.error),
        cancel_requested=job.cancel_requested,
        pause_requested=job.pause_requested,
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
        publications=f"{path}/publications",
        cancel=f"{path}/cancel",
        pause=f"{path}/pause",
        resume=f"{path}/resume",
    )
