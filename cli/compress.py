"""`scalpel compress`: the library alone, in this process; no service, no database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cli import flags
from cli.exits import CommandError, Exit
from cli.groups import GoalFlags, LimitFlags, OutputFlags, RecipeFlags, TextFlags, takes_groups
from cli.local import fetched
from cli.progress import Display, display
from cli.service import DEFAULT_DATA_DIR, DataDir

if TYPE_CHECKING:
    from pydantic import BaseModel

    from compression.protocol import Output
    from compression.report import Report

Part = TypeVar("Part", bound="BaseModel")


@takes_groups
def compress(
    model: flags.ModelArg,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the result; must not exist yet.")],
    recipe: RecipeFlags,
    goal: GoalFlags,
    texts: TextFlags,
    limits: LimitFlags,
    written: OutputFlags,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    low_memory: Annotated[bool, typer.Option("--low-memory", help="Same result with less memory, slower.")] = False,
    is_json: Annotated[bool, typer.Option("--json", help="Print the report as it is stored.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compress a model right here, without a service. Run it again to continue after an interruption.

    Name a recipe, or a goal that Scalpel finds the best recipe for. Examples:

    scalpel compress demo:smollm2-135m --bits 4 -o smollm2-4bit

    scalpel compress demo:smollm2-135m --goal bytes/3 --format compressed-tensors -o smollm2-third
    """
    from compression.protocol import Acceptance, Calibration, Evaluation, Output

    wanted, aim, said = recipe.asked(), goal.asked(), texts.asked()
    options: dict[str, Any] = {
        "calibration": part(Calibration, said["calibration"]),
        "evaluation": part(Evaluation, said["evaluation"]),
        "acceptance": part(Acceptance, limits.asked()),
        "output": part(Output, written.asked()),
        "device": device,
        "low_memory": low_memory,
    }
    _check(wanted, aim, options["output"], output)
    try:
        with display() as shown:
            report = _compress(flags.source(model), wanted, aim, output, options, data_dir, shown)
    except KeyboardInterrupt:
        raise CommandError("interrupted; the same command continues from the last finished block", Exit.INTERRUPTED) from None
    if is_json:
        typer.echo(report.model_dump_json(indent=2))
        return
    from cli.report_text import headlines

    typer.echo(f"written to {output}")
    for words in headlines(report):
        typer.echo(words)
    typer.echo(f"next: scalpel report {output}")


def _check(recipe: dict[str, Any], aim: dict[str, Any] | None, written: "Output", output: Path) -> None:
    """A refusal is due before the download and before torch is loaded.

    Raises: CommandError, InvalidOptions.
    """
    from compression.goals.goal import parse_goal
    from compression.recipe import parse_recipe, resolve

    if output.exists():
        raise CommandError(f"{output} exists already, and nothing is overwritten; name another folder with -o", Exit.REFUSED)
    if aim is None:
        resolve(parse_recipe(recipe), written.format)
        return
    unwanted = [name for name in recipe if name != "ignore"]
    if unwanted:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in unwanted)
        raise CommandError(f"a --goal chooses the recipe itself; leave out {named}, or name them in a --level", Exit.REFUSED)
    parse_goal(aim)


def _compress(
    model: str,
    recipe: dict[str, Any],
    aim: dict[str, Any] | None,
    output: Path,
    options: dict[str, Any],
    data_dir: Path,
    shown: Display,
) -> "Report":
    from jobs.kept import prune_kept

    local = fetched(model, options["calibration"].source, options["evaluation"].texts, data_dir, shown)
    given: dict[str, Any] = {
        **options,
        "texts": local.texts,
        "cache": local.settings.cache_dir,
        "on_event": lambda event: shown.show(event.type, event.model_dump(mode="json")),
    }
    if aim is None:
        from compression.compress import compress as run

        report = run(local.source, recipe, output, **given)
    else:
        from compression.goals.reach import reach

        report = reach(local.source, aim, output, ignore=tuple(recipe.get("ignore", ())), **given)
    prune_kept(local.settings)
    return report


def part(kind: type[Part], said: dict[str, Any]) -> Part:
    """Raises: CommandError: a value out of range."""
    from pydantic import ValidationError

    try:
        return kind.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join([kind.__name__.lower(), *map(str, first["loc"])])
        raise CommandError(f"{field}: {first['msg']}", Exit.REFUSED) from error
