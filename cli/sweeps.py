"""`scalpel sweeps`: many recipes on one model, by a service."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import flags
from cli.exits import EPILOG, CommandError, Exit
from cli.groups import LimitFlags, OutputFlags, TextFlags, takes_groups
from cli.listing import Json, print_rows, tell
from cli.recipe_axes import NONE, PANEL, Axes, RecipeList, axes, listed
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect
from compression.words import goal_words, recipe_words, size

if TYPE_CHECKING:
    from client import Sweep, SweepPoint

app = typer.Typer(name="sweeps", help="Many recipes on one model, as jobs that are compared.", no_args_is_help=True)
SweepId = Annotated[str, typer.Argument(metavar="ID", help="The sweep, as `scalpel sweeps submit` printed it.")]
BEST = "*"


@app.command(epilog=EPILOG)
@takes_groups
def submit(
    model: flags.ModelArg,
    texts: TextFlags,
    limits: LimitFlags,
    output: OutputFlags,
    grid: Axes = None,
    recipes: RecipeList = None,
    goal: Annotated[
        list[str] | None,
        typer.Option(
            "--goal", help="A goal as in `scalpel submit`, such as `latency/1.5`; repeatable.", rich_help_panel=PANEL
        ),
    ] = None,
    runs_on: flags.RunsOn = None,
    label: flags.Label = None,
    device: flags.Device = None,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Ask for a job for each recipe and goal, and print the sweep's id. Examples:

    scalpel sweeps submit demo:smollm2-135m --grid bits=3,4 --grid group_size=32,64

    scalpel sweeps submit demo:smollm2-135m --goal latency/1.3 --goal latency/1.6
    """
    said = {"acceptance": limits.asked(), "output": output.asked(), "labels": flags.labels(label), "device": device}
    asked: dict[str, Any] = {**texts.asked(), **{name: value for name, value in said.items() if value}}
    wanted, made = listed(recipes), axes(grid)
    goals = [flags.goal(goal=one, level=None, evaluations=None, stitched=False, runs_on=runs_on) for one in goal or ()]
    if not wanted and not made and not goals:
        raise CommandError(f"{NONE}, or a --goal such as latency/1.5", Exit.REFUSED)
    with connect(url, data_dir) as service:
        sweep = service.sweep(flags.source(model), wanted, grid=made, goals=[one for one in goals if one], **asked)
    if is_json:
        typer.echo(sweep.model_dump_json(indent=2))
        return
    typer.echo(sweep.id)
    for left in sweep.left_out:
        typer.echo(f"left out: {recipe_words(left.recipe)}: {left.reason}", err=True)
    typer.echo(f"{len(sweep.points)} jobs; compare them with: scalpel sweeps show {sweep.id}", err=True)


@app.command("list", epilog=EPILOG)
def list_sweeps(is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """List the sweeps, the newest first."""
    with connect(url, data_dir) as service:
        found = [sweep.model_dump(mode="json") for sweep in service.sweeps()]
    for row in () if is_json else found:
        row["jobs"] = ", ".join(f"{count} {state}" for state, count in row["jobs"].items())
    print_rows(found, ("id", "model", "jobs", "created_at"), is_json=is_json, if_none="no sweeps")


@app.command(epilog=EPILOG)
def show(sweep_id: SweepId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Compare the points of a sweep, as far as they are: smallest first, what no other beats marked."""
    with connect(url, data_dir) as service:
        sweep = service.read_sweep(sweep_id)
    if is_json:
        typer.echo(sweep.model_dump_json(indent=2))
        return
    _show(sweep)


@app.command(epilog=EPILOG)
def forget(sweep_id: SweepId, is_json: Json = False, url: Url = None, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Remove a sweep. Its jobs go on, and are deleted one by one where that is wanted."""
    with connect(url, data_dir) as service:
        service.forget_sweep(sweep_id)
    tell({"forgotten": sweep_id}, f"{sweep_id} is forgotten; its jobs are still there", is_json=is_json)


def _show(sweep: "Sweep") -> None:
    from cli.output import console, plain_table

    table = plain_table("", "job", "state", "recipe", "bytes", "bits", "zeros", "perplexity", "ratio", "KL", "times as fast")
    for point in sorted(sweep.points, key=lambda point: point.figures.packed_bytes if point.figures else float("inf")):
        table.add_row(*_cells(point))
    shown = console()
    shown.print(table)
    shown.print(f"{BEST} no other point is as small and loses as little. Bytes: weights on disk, packed.")


def _cells(point: "SweepPoint") -> list[str]:
    said = {name: value for name, value in point.recipe.items() if (name, value) != ("inputs", "dense")}
    asked = recipe_words(said) if point.goal is None else goal_words(point.goal)
    first = [BEST if point.is_dominated is False else "", point.job_id, point.state, asked]
    found = point.figures
    if found is None:
        return [*first, point.error.title if point.error else "", *[""] * 6]
    loss = found.output_error if found.perplexity_ratio is None else found.perplexity_ratio
    numbers = (found.perplexity, loss, found.kl, found.speedup)
    width = [size(found.packed_bytes), f"{found.bits_per_weight:.4g}", f"{found.sparsity:.1%}"]
    return [*first, *width, *("" if number is None else f"{number:.4g}" for number in numbers)]
