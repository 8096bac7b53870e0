"""`scalpel compress`: the library alone, in this process; no service, no database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cli import flags
from cli.exits import CommandError, Exit
from cli.groups import LimitFlags, OutputFlags, RecipeFlags, TextFlags, takes_groups
from cli.local import fetched
from cli.progress import Display, display
from cli.service import DEFAULT_DATA_DIR, DataDir

if TYPE_CHECKING:
    from pydantic import BaseModel

    from compression.protocol import Acceptance, Calibration, Evaluation, Output
    from compression.report import Report

Part = TypeVar("Part", bound="BaseModel")


@takes_groups
def compress(
    model: flags.ModelArg,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the result; must not exist yet.")],
    recipe: RecipeFlags,
    texts: TextFlags,
    limits: LimitFlags,
    written: OutputFlags,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    low_memory: Annotated[bool, typer.Option("--low-memory", help="Same result with less memory, slower.")] = False,
    is_json: Annotated[bool, typer.Option("--json", help="Print the report as it is stored.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compress a model right here, without a service. Run it again to continue after an interruption.

    Example: scalpel compress demo:smollm2-135m --bits 4 -o smollm2-4bit
    """
    from compression.protocol import Acceptance, Calibration, Evaluation, Output

    wanted, said = recipe.asked(), texts.asked()
    calibrated, evaluated = part(Calibration, said["calibration"]), part(Evaluation, said["evaluation"])
    accepted, form = part(Acceptance, limits.asked()), part(Output, written.asked())
    try:
        with display() as shown:
            report = _compress(
                flags.source(model),
                wanted,
                output,
                calibrated,
                evaluated,
                accepted,
                form,
                device,
                low_memory,
                data_dir,
                shown,
            )
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


def _compress(
    model: str,
    recipe: dict[str, Any],
    output: Path,
    calibration: "Calibration",
    evaluation: "Evaluation",
    acceptance: "Acceptance",
    written: "Output",
    device: str,
    low_memory: bool,
    data_dir: Path,
    shown: Display,
) -> "Report":
    from compression.recipe import parse_recipe, resolve
    from jobs.kept import prune_kept

    if output.exists():  # a refusal is due before the download and before torch is loaded
        raise CommandError(f"{output} exists already, and nothing is overwritten; name another folder with -o", Exit.REFUSED)
    parsed = parse_recipe(recipe)
    resolve(parsed, written.format)
    local = fetched(model, calibration.source, evaluation.texts, data_dir, shown)
    from compression.compress import compress as run

    report = run(
        local.source,
        parsed,
        output,
        calibration=calibration,
        evaluation=evaluation,
        acceptance=acceptance,
        output=written,
        texts=local.texts,
        cache=local.settings.cache_dir,
        device=device,
        low_memory=low_memory,
        on_event=lambda event: shown.show(event.type, event.model_dump(mode="json")),
    )
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
