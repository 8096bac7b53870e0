"""`scalpel submit`: ask the service for a compression or an evaluation."""

import json
from typing import TYPE_CHECKING

import typer

from cli import flags
from cli.estimate_text import short_words
from cli.exits import Exit
from cli.groups import GoalFlags, LimitFlags, OutputFlags, RecipeFlags, TextFlags, takes_groups
from cli.listing import Json
from cli.request import request_of
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect
from cli.watch import follow, outcome, tell_outcome

if TYPE_CHECKING:
    from client import Job, Scalpel


@takes_groups
def submit(
    model: flags.ModelArg,
    recipe: RecipeFlags,
    goal: GoalFlags,
    texts: TextFlags,
    limits: LimitFlags,
    output: OutputFlags,
    is_evaluation: flags.IsEvaluation = False,
    reference: flags.Reference = None,
    label: flags.Label = None,
    device: flags.Device = None,
    is_watched: flags.Watched = False,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> int:
    """Ask for a compression and print the job's id. Name a recipe, or a goal that Scalpel finds the best recipe for.

    Example: scalpel submit demo:smollm2-135m --pattern 2:4 --watch

    Example: scalpel submit demo:smollm2-135m --goal bytes/1.5 --format compressed-tensors --watch
    """
    asked = request_of(
        model,
        recipe,
        goal,
        texts,
        limits,
        output,
        is_evaluation=is_evaluation,
        reference=reference,
        label=label,
        device=device,
    )
    with connect(url, data_dir) as service:
        job = service.evaluate(**asked) if is_evaluation else service.submit(**asked)
        return tell_submitted(service, job, is_watched, is_json)


def tell_submitted(service: "Scalpel", job: "Job", is_watched: bool, is_json: bool) -> int:
    """Print a job that was taken, or follow it to its end. Returns: the exit code."""
    if not is_watched:
        _tell(job, is_json)
        return Exit.OK
    job = follow(service, job.id)
    if is_json:
        _tell(job, is_json)
    else:
        tell_outcome(service, job)
    return outcome(job)


def _tell(job: "Job", is_json: bool) -> None:
    if is_json:
        typer.echo(json.dumps(job.model_dump(mode="json"), indent=2))
        return
    typer.echo(job.id)
    if job.estimate and (expected := short_words(job.estimate)):
        typer.echo(expected, err=True)
    if job.forecast and job.forecast.note:
        typer.echo(f"note: {job.forecast.note}", err=True)
    typer.echo(f"{job.state}; follow it with: scalpel watch {job.id}", err=True)
