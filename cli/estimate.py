"""`scalpel estimate`: what a job would need, before it is asked for."""

import json

import typer

from cli import flags
from cli.estimate_text import print_estimate
from cli.groups import GoalFlags, LimitFlags, OutputFlags, RecipeFlags, TextFlags, takes_groups
from cli.listing import Json
from cli.request import request_of
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect


@takes_groups
def estimate(
    model: flags.ModelArg,
    recipe: RecipeFlags,
    goal: GoalFlags,
    texts: TextFlags,
    limits: LimitFlags,
    output: OutputFlags,
    is_evaluation: flags.IsEvaluation = False,
    reference: flags.Reference = None,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Say what a job would need: memory, disk, bytes in every format, time. Takes the flags of `submit`; nothing is queued.

    Example: scalpel estimate demo:smollm2-135m --bits 4
    """
    asked = request_of(model, recipe, goal, texts, limits, output, is_evaluation=is_evaluation, reference=reference)
    if is_evaluation:
        asked["task"] = "evaluate"
    with connect(url, data_dir) as service:
        found = service.estimate(**asked)
    if is_json:
        typer.echo(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    from cli.output import console

    print_estimate(found, console())
