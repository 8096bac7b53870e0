"""`scalpel sweep`: many recipes on one model, right here, and which of them are worth having."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import flags
from cli.compress import part
from cli.exits import CommandError, Exit
from cli.groups import LimitFlags, OutputFlags, TextFlags, takes_groups
from cli.local import fetched
from cli.progress import Display, display
from cli.service import DEFAULT_DATA_DIR, DataDir

if TYPE_CHECKING:
    from compression.protocol import Acceptance, Calibration, Evaluation, Output
    from compression.recipe import Recipe
    from compression.sweep_report import SweepReport

GRID = "Recipes"


@takes_groups
def sweep(
    model: flags.ModelArg,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder for sweep.json and an artifact of each recipe; continued if it is there."),
    ],
    texts: TextFlags,
    limits: LimitFlags,
    written: OutputFlags,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            help="An option of a recipe and its values, `bits=3,4`; repeatable, for all combinations.", rich_help_panel=GRID
        ),
    ] = None,
    recipes: Annotated[
        Path | None,
        typer.Option(help="A JSON file with a list of recipes.", exists=True, dir_okay=False, rich_help_panel=GRID),
    ] = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine", help="Solve the recipes that no other beats again, on compressed inputs.", rich_help_panel=GRID
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    is_json: Annotated[bool, typer.Option("--json", help="Print the report as it is stored.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compress a model by many recipes and compare them. Run it again to continue after an interruption.

    What does not depend on the recipe is computed once. Example:

    scalpel sweep demo:smollm2-135m --grid bits=3,4 --grid group_size=32,64 -o sweep
    """
    from compression.protocol import Acceptance, Calibration, Evaluation, Output

    said = texts.asked()
    calibrated, evaluated = part(Calibration, said["calibration"]), part(Evaluation, said["evaluation"])
    accepted, form = part(Acceptance, limits.asked()), part(Output, written.asked())
    wanted = _recipes(grid or [], recipes, form)
    try:
        with display() as shown:
            found = _sweep(
                flags.source(model), wanted, output, calibrated, evaluated, accepted, form, refine, device, data_dir, shown
            )
    except KeyboardInterrupt:
        raise CommandError("interrupted; the same command continues where it was", Exit.INTERRUPTED) from None
    if is_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        from cli.sweep_text import show

        show(found)
        typer.echo(f"written to {output}; next: scalpel report {output}/NAME")
    if found.failed:
        names = ", ".join(point.name for point in found.failed)
        raise CommandError(
            f"{len(found.failed)} of {len(found.points)} failed: {names}; run it again to try them again", Exit.FAILED
        )


def _recipes(axes: list[str], file: Path | None, output: "Output") -> "list[Recipe]":
    """Raises: CommandError: no recipe, or one that cannot be read."""
    from compression.recipe import parse_recipe
    from compression.recipe_grid import grid

    wanted: list[Recipe] = []
    if file is not None:
        try:
            listed = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CommandError(f"{file} is no JSON: {error}", Exit.REFUSED) from error
        if not isinstance(listed, list) or not all(isinstance(recipe, dict) for recipe in listed):
            raise CommandError(f"{file} must hold a list of recipes", Exit.REFUSED)
        wanted += [parse_recipe(recipe) for recipe in listed]
    if axes:
        made = grid(dict(map(_axis, axes)), output.format)
        for said, reason in made.left_out:
            typer.echo(f"left out: {', '.join(f'{name} {value}' for name, value in said.items())}: {reason}", err=True)
        wanted += made.recipes
    if not wanted:
        raise CommandError("no recipes: name some with --grid bits=3,4 or --recipes FILE", Exit.REFUSED)
    return wanted


def _axis(said: str) -> tuple[str, list[Any]]:
    """`bits=3,4` -> ("bits", [3, 4]). Raises: CommandError: it has another form."""
    from compression.override_words import plain_value

    name, is_there, values = said.partition("=")
    if not is_there or not values:
        raise CommandError(f"--grid {said}: an option, =, and values with commas between them, such as bits=3,4", Exit.REFUSED)
    return name.strip().replace("-", "_"), [plain_value(value.strip()) for value in values.split(",")]


def _sweep(
    model: str,
    recipes: "list[Recipe]",
    output: Path,
    calibration: "Calibration",
    evaluation: "Evaluation",
    acceptance: "Acceptance",
    written: "Output",
    refine: bool,
    device: str,
    data_dir: Path,
    shown: Display,
) -> "SweepReport":
    from jobs.kept import prune_kept

    local = fetched(model, calibration.source, evaluation.texts, data_dir, shown)
    from compression.sweep import sweep as run

    found = run(
        local.source,
        recipes,
        output,
        calibration=calibration,
        evaluation=evaluation,
        acceptance=acceptance,
        output=written,
        refine=refine,
        texts=local.texts,
        cache=local.settings.cache_dir,
        device=device,
        on_event=lambda event: shown.show(event.type, event.model_dump(mode="json")),
    )
    prune_kept(local.settings)
    return found
