"""`scalpel jobs`, `cancel`, `methods` and `formats`: short answers of the service."""

import json
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect

if TYPE_CHECKING:
    from rich.table import Table

    from client import Job

JobId = Annotated[str, typer.Argument(metavar="ID", help="The job, as `scalpel submit` printed it.")]
Json = Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")]


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


def cancel(job_id: JobId, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Stop a job. A running one stops within a few seconds and keeps no artifact."""
    with connect(url, data_dir) as service:
        job = service.cancel(job_id)
    typer.echo(f"{job.id} is {job.state}" + ("" if job.is_final else "; it stops at the worker's next heartbeat"))


def methods(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the compression methods and what each is good for."""
    with connect(url, data_dir) as service:
        found = service.methods()
    if is_json:
        typer.echo(json.dumps([method.model_dump(mode="json") for method in found], indent=2))
        return
    from cli.output import console, plain_table

    table = plain_table("method", "good for", "options")
    for method in found:
        options = ", ".join(name for name in method.options.get("properties", {}) if name != "method")
        table.add_row(method.name, method.good_for, options)
    console().print(table)


def formats(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the output formats: what their files hold, what loads them, what they refuse."""
    with connect(url, data_dir) as service:
        found = service.formats()
    if is_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in found], indent=2))
        return
    from cli.output import console, plain_table

    table = plain_table("format", "content", "loads in")
    for entry in found:
        table.add_row(entry.name, entry.content, ", ".join(entry.loads_in))
    console().print(table)
    for entry in found:
        for reason in dict.fromkeys(entry.refuses.values()):
            wishes = ", ".join(wish for wish, why in entry.refuses.items() if why == reason)
            typer.echo(f"{entry.name} refuses {wishes}: {reason}")


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
            _task_words(job),
            f"{job.created_at.astimezone():%Y-%m-%d %H:%M}",
        )
    return table


def _task_words(job: "Job") -> str:
    """What the job is asked to do, as short as it goes."""
    if job.task == "export":
        return f"{job.request['output']['format']} of {job.parent or 'a job that was removed'}"
    if job.task == "evaluate":
        return f"evaluate against {job.request['reference']}" if job.request.get("reference") else "evaluate"
    return recipe_words(job.request.get("recipe", {}))


def recipe_words(recipe: dict[str, object]) -> str:
    """`{"sparsity": 0.5, "pattern": "2:4"}` -> `sparsity 0.5, pattern 2:4`."""
    return ", ".join(f"{name} {value}" for name, value in recipe.items() if value is not None)
