"""A sweep as it is answered to clients: its points, what each costs and loses, and which are worth having."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from compression.figures import Figures
from compression.pareto import undominated
from jobs.failure import Failure
from jobs.states import State
from jobs.sweep_request import LeftOut
from jobs.sweep_table import Sweep
from jobs.tables import Job


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class SweepPoint(_View):
    """One recipe or goal: a job like any other."""

    job_id: str
    state: State
    recipe: dict[str, Any] = Field(description="As asked; empty where a goal is.")
    goal: dict[str, Any] | None = Field(None, description="As asked.")
    figures: Figures | None = Field(description="Of the job's report; null while there is none.")
    is_dominated: bool | None = Field(
        description="Another point takes no more packed bytes and loses no more, and is better in one; null without figures."
    )
    error: Failure | None


class SweepSummary(_View):
    """A sweep in a list."""

    id: str
    model: str
    created_at: datetime
    jobs: dict[State, int] = Field(description="How many of its jobs are in each state; deleted ones are in none.")


class SweepView(SweepSummary):
    request: dict[str, Any] = Field(description="As sent.")
    points: tuple[SweepPoint, ...] = Field(description="In the order of the request.")
    left_out: tuple[LeftOut, ...] = Field(description="Combinations of the grid that make no recipe.")


def summary(sweep: Sweep, jobs: Sequence[Job]) -> SweepSummary:
    return SweepSummary(id=sweep.id, model=sweep.model, created_at=sweep.created_at, jobs=_counts(jobs))


def sweep_view(sweep: Sweep, jobs: Sequence[Job], figures: Mapping[str, Figures]) -> SweepView:
    """Args: figures: by job id, of those that have a report."""
    losses = {job.id: found.loss for job in jobs if (found := figures.get(job.id)) is not None}
    known = [(job_id, loss) for job_id, loss in losses.items() if loss is not None]
    best = undominated([(float(figures[job_id].packed_bytes), loss) for job_id, loss in known])
    dominated = {job_id: not is_best for (job_id, _), is_best in zip(known, best, strict=True)}
    return SweepView(
        id=sweep.id,
        model=sweep.model,
        created_at=sweep.created_at,
        jobs=_counts(jobs),
        request=sweep.request,
        points=tuple(
            SweepPoint(
                job_id=job.id,
                state=job.state,
                recipe=dict(job.request.get("recipe", {})),
                goal=job.request.get("goal"),
                figures=figures.get(job.id),
                is_dominated=dominated.get(job.id),
                error=None if job.error is None else Failure.model_validate(job.error),
            )
            for job in jobs
        ),
        left_out=tuple(LeftOut.model_validate(one) for one in sweep.left_out["recipes"]),
    )


def _counts(jobs: Sequence[Job]) -> dict[State, int]:
    found: dict[State, int] = {}
    for job in jobs:
        found[job.state] = found.get(job.state, 0) + 1
    return found
