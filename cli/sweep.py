"""`scalpel sweep`: many recipes on one model, right here, and which of them are worth having."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import flags
from cli.compress import part
from cli.exits import CommandError, Exit
from cli.groups import LimitFlags, OutputFlags, TextFlags, takes_groups
from cli.local import fetched
from cli.progress import Display, display
from cli.recipe_axes import NONE, PANEL, Axes, RecipeList, axes, listed
from cli.service import DEFAULT_DATA_DIR, DataDir
from compression.words import recipe_words

if TYPE_CHECKING:
    from compression.protocol import Acceptance, Calibration, Evaluation, Output
    from compression.recipe import Recipe
    from compression.sweep_report import SweepReport


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
    grid: Axes = None,
    recipes: RecipeList = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine", help="Solve the recipes that no other beats again, on compressed inputs.", rich_help_panel=PANEL
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
    wanted = _recipes(grid, recipes, form)
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


def _recipes(said: list[str] | None, file: Path | None, output: "Output") -> "list[Recipe]":
    """Raises: CommandError: no recipe, or one that cannot be read."""
    from compression.recipe import parse_recipe
    from compression.recipe_grid import grid

    wanted = [parse_recipe(recipe) for recipe in listed(file)]
    if made := axes(said):
        combined = grid(made, output.format)
        for left, reason in combined.left_out:
            typer.echo(f"left out: {recipe_words(left)}: {reason}", err=True)
        wanted += combined.recipes
    if not wanted:
        raise CommandError(NONE, Exit.REFUSED)
    return wanted


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
