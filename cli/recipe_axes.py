"""Many recipes on a command line: options with several values, and files with a list."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.exits import CommandError, Exit

PANEL = "Recipes"
_AXES = "An option of a recipe and its values, `bits=3,4`; repeatable, for all combinations."
Axes = Annotated[list[str] | None, typer.Option("--grid", help=_AXES, rich_help_panel=PANEL)]
RecipeList = Annotated[
    Path | None,
    typer.Option("--recipes", help="A JSON file with a list of recipes.", exists=True, dir_okay=False, rich_help_panel=PANEL),
]
NONE = "no recipes: name some with --grid bits=3,4 or --recipes FILE"


def axes(said: list[str] | None) -> dict[str, list[Any]]:
    """`["bits=3,4"]` -> {"bits": [3, 4]}. Raises: CommandError: one has another form."""
    return dict(map(_axis, said or ()))


def listed(file: Path | None) -> list[dict[str, Any]]:
    """The recipes of a file. Raises: CommandError: it holds something else."""
    if file is None:
        return []
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandError(f"{file} is no JSON: {error}", Exit.REFUSED) from error
    if not isinstance(found, list) or not all(isinstance(recipe, dict) for recipe in found):
        raise CommandError(f"{file} must hold a list of recipes", Exit.REFUSED)
    return found


def _axis(said: str) -> tuple[str, list[Any]]:
    from compression.override_words import plain_value

    name, is_there, values = said.partition("=")
    if not is_there or not values:
        raise CommandError(f"--grid {said}: an option, =, and values with commas between them, such as bits=3,4", Exit.REFUSED)
    return name.strip().replace("-", "_"), [plain_value(value.strip()) for value in values.split(",")]
