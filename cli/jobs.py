"""`scalpel jobs`: the list of them, and how a job is told in a line."""

import json
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from cli.listing import Json
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect
from compression.words import goal_words, recipe_words

if TYPE_CHECKING:
    from rich.table import Table

    from client import Job

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job, as `scalpel submit` printed it.")]


def jobs(
    state: Annotated[
        str | None, typer.Option(help="Only jobs in this state: queued, running, paused, succeeded, failed or cancelled.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    label: Annotated[str | None, typer.Option(metavar="KEY=VALUE", help="Only jobs with this label.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List jobs, the newest first."""
    wanted = label.replace("=", ":", 1) if label else None
    with connect(url, data_dir) as service:
        found = list(islice(service.jobs(state=state, model=model, label=wanted, page_size=min(limit, 200)), limit))
    if is_json:
        typer.echo(json.dumps([job.model_dump(mode="json") for job in found], indent=2))
    elif found:
        from cli.output import console

        console().print(_table(found))
    else:
        typer.echo("no jobs")


def _table(found: "list[Job]") -> "Table":
    from cli.output import plain_table

    table = plain_table("id", "state", "stage", "progress", "model", "recipe", "created")
    for job in found:
        fraction = job.progress.fraction if job.progress else None
        table.add_row(
            job.id,
            f"{job.state}, {job.verdict}" if job.verdict else job.state,
            job.stage or "",
            "" if fraction is None else f"{fraction:.0%}",
            job.model,
            task_words(job),
            f"{job.created_at.astimezone():%Y-%m-%d %H:%M}",
        )
    return table


def task_words(job: "Job") -> str:
    """What the job is asked to do, as short as it goes."""
    if job.task == "export":
        return f"{job.request['output']['format']} of {job.parent or 'a job that was removed'}"
    if job.task == "publish":
        target = job.request["target"]
        return f"publish {job.parent or 'a job that was removed'} to {target.get('hub') or target.get('bucket')}"
    if job.task == "evaluate":
        return f"evaluate against {job.request['reference']}" if job.request.get("reference") else "evaluate"
    if goal := job.request.get("goal"):
        return goal_words(goal)
    return recipe_words(job.request.get("recipe", {}))
