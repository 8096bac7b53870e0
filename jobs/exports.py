"""Another format from a finished job: what is asked, what is refused before any work, and the job that does it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from compression.formats.catalog import check_options, check_output, check_same_values
from compression.formats.sizes import Forecast
from compression.protocol import Output
from compression.recipe import ResolvedRecipe
from jobs import repository, transitions
from jobs.database import Sessions
from jobs.errors import NotExportable, SolutionsGone
from jobs.limits import Limits
from jobs.references import refer
from jobs.request import Labels, Priority
from jobs.settings import Settings
from jobs.sourcing.known_model import check_against_model, known_model
from jobs.sourcing.sources import pinned
from jobs.states import State
from jobs.store.artifacts import ArtifactStore
from jobs.tables import Job, Solution
from jobs.uploads.brought import Brought

EXAMPLES: list[Any] = [{"output": {"format": "dense"}}]


class ExportRequest(BaseModel):
    """An export as submitted."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    output: Output
    limits: Limits = Field(default_factory=Limits)
    labels: Labels = Field(default_factory=dict)
    priority: Priority = 0


@dataclass(frozen=True)
class Exportable:
    """A finished compression whose solutions are kept.

    Args:
        source: the model, held at the revision that was read.
        recipe: with the group sizes that only the model decided.
        output: of the artifact that was evaluated.
    """

    job: Job
    source: str
    recipe: ResolvedRecipe
    output: Output


def find_exportable(session: Session, tenant_id: str, store: ArtifactStore, job_id: str) -> Exportable:
    """Raises: JobNotFound. NotExportable: the job has not succeeded. SolutionsGone: its solutions are not kept."""
    job = repository.get(session, tenant_id, job_id)
    if job.task != "compress":
        raise NotExportable(job_id, f"its task is {job.task}, and only a compression has solutions")
    if job.state is not State.SUCCEEDED:
        raise NotExportable(job_id, f"it is {job.state}; solutions are kept once it has succeeded")
    if (job.request.get("goal") or {}).get("metric") == "latency":
        reason = "it made a smaller model with dense weights; compress what it made in a job of its own"
        raise NotExportable(job_id, reason)
    if not solutions(session, job_id):
        raise SolutionsGone(job_id)
    report = json.loads(b"".join(store.stream(repository.report(session, tenant_id, job_id).sha256)))
    return Exportable(
        job,
        pinned(job.model, report["model"]["revision"]),
        ResolvedRecipe.model_validate(report["recipe"]),
        Output.model_validate(report["output"]),
    )


def check_export(sessions: Sessions, found: Exportable, request: ExportRequest, settings: Settings) -> Forecast | None:
    """Refuse a format that cannot hold what was solved, as it was solved; foretell the artifact's size.

    Raises: InvalidOptions: naming the format, the reason and the formats that would do. As `known_model`.
    """
    check_output(request.output)
    check_same_values(found.output, request.output)
    name = request.output.format
    check_options(name, found.recipe.options, "what was solved")
    for pattern, options in found.recipe.overrides.items():
        if options is not None:
            check_options(name, options, f"what was solved for {pattern}")
    known = known_model(found.source, settings, Brought(sessions, found.job.tenant_id).model)
    return check_against_model(known, found.recipe, request.output) if known else None


def submit_export(
    session: Session,
    found: Exportable,
    request: ExportRequest,
    forecast: Forecast | None,
    max_attempts: int,
    run_limit_s: float | None = None,
) -> Job:
    """Queue the export; the caller commits.

    Raises: JobNotFound: the job was deleted in the meantime. SourceError: the model was an upload that its owner has deleted.
    """
    transitions.lock(session, found.job.tenant_id, found.job.id)  # from here on it is not deleted without this export
    job = repository.enqueue(
        session,
        tenant_id=found.job.tenant_id,
        task="export",
        parent_id=found.job.id,
        model=found.job.model,
        request=request.model_dump(mode="json", exclude_unset=True),
        recipe=found.recipe.model_dump(mode="json"),
        labels=dict(request.labels),
        forecast=forecast and forecast.model_dump(),
        priority=request.priority,
        max_attempts=max_attempts,
        run_limit_s=run_limit_s,
    )
    refer(session, job, [job.model])
    return job


def solutions(session: Session, job_id: str) -> Sequence[Solution]:
    """The files that a job keeps, by name; empty where there are none."""
    return session.scalars(select(Solution).where(Solution.job_id == job_id).order_by(Solution.name)).all()
