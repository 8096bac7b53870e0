"""`scalpel show`: one job, as the service tells it now."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from cli.jobs import JobId, task_words
from cli.listing import Json, print_json, words
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect
from compression.words import duration

if TYPE_CHECKING:
    from client import Job


def show(job_id: JobId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show one job: what was asked, how far it is, why it failed, what it has."""
    with connect(url, data_dir) as service:
        job = service.job(job_id)
        artifacts = service.artifacts(job_id) if job.state == "succeeded" else ()
    if is_json:
        print_json(job.model_dump(mode="json"))
        return
    for name, value in _rows(job):
        typer.echo(f"{name:<12}{value}")
    for artifact in artifacts:
        typer.echo(f"{'file':<12}{artifact.name}  {artifact.size_bytes:,} bytes  sha256 {artifact.sha256[:12]}...")
    if hint := _next(job):
        typer.echo(f"next: {hint}")


def _rows(job: "Job") -> Iterator[tuple[str, str]]:
    yield "id", job.id
    yield "state", job.state + (f", {job.verdict}" if job.verdict else "")
    yield "model", job.model
    yield "asked", task_words(job)
    if job.recipe:
        yield "method", str(job.recipe["options"]["method"])
    if job.stage:
        yield "stage", ": ".join(filter(None, [job.stage, job.activity]))
    if job.progress and job.progress.fraction is not None:
        yield "progress", _progress(job)
    yield "attempt", f"{job.attempt} of {job.max_attempts}" if job.max_attempts else str(job.attempt)
    times: dict[str, datetime | None] = {
        "created": job.created_at, "started": job.started_at, "finished": job.finished_at,
        "files gone": job.artifacts_deleted_at,
    }  # fmt: skip
    yield from ((name, words(value)) for name, value in times.items() if value is not None)
    if job.running_s:
        yield "at work", duration(job.running_s)
    if job.labels:
        yield "labels", ", ".join(f"{name}={value}" for name, value in job.labels.items())
    if job.publication:
        yield "published", job.publication.url
    if job.error:
        yield "error", ": ".join(filter(None, [job.error.title, job.error.layer, job.error.detail]))


def _progress(job: "Job") -> str:
    told: Any = job.progress
    parts = [f"{told.fraction:.0%}"]
    if told.block is not None:
        parts.append(f"block {told.block} of {told.blocks}")
    if told.eta_s is not None:
        parts.append(f"{duration(told.eta_s)} left")
    return ", ".join(parts)


def _next(job: "Job") -> str | None:
    match job.state:
        case "queued" | "running":
            return f"scalpel watch {job.id}"
        case "paused":
            return f"scalpel resume {job.id}"
        case "succeeded" if job.task in ("compress", "export"):
            return f"scalpel report {job.id}; scalpel download {job.id}"
        case "failed" | "cancelled":
            return f"scalpel retry {job.id}"
    return None
