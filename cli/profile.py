"""`scalpel profile`: what the parts of a model take on this machine, and how much faster it could be."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import flags
from cli.local import fetched
from cli.progress import Display, display
from cli.service import DEFAULT_DATA_DIR, DataDir

if TYPE_CHECKING:
    from compression.structure.timing import LatencyTable


def profile(
    model: flags.ModelArg,
    runs_on: flags.RunsOn = None,
    multiple_of: flags.MultipleOf = None,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    is_json: Annotated[bool, typer.Option("--json", help="Print the table as it is kept.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Time a model's halves of blocks at every size, right here. A goal of latency in the same environment uses the times.

    Example: scalpel profile demo:smollm2-135m --runs-on batch=8,seqlen=128
    """
    from compression.goals.goal import parse_goal

    said = flags.goal(goal="latency/2", level=None, evaluations=None, stitched=False, runs_on=runs_on, multiple_of=multiple_of)
    goal = parse_goal(said)  # refuses what no environment can be
    with display() as shown:
        table = _measured(flags.source(model), goal.environment, goal.multiple_of, device, data_dir, shown)
    if is_json:
        typer.echo(table.model_dump_json(indent=2))
        return
    _show(table)


def _measured(
    model: str, environment: object, multiple_of: int, device: str, data_dir: Path, shown: Display
) -> "LatencyTable":
    local = fetched(model, None, (), data_dir, shown)
    from compression.environment import pick_device
    from compression.preparation import open_checkpoint
    from compression.structure.latency import kept_table
    from compression.structure.timing import RunEnvironment
    from compression.structure.units import levels_of, structure_of

    assert environment is None or isinstance(environment, RunEnvironment)
    checkpoint, _ = open_checkpoint(local.source, local.settings.cache_dir)
    attention, ffn = structure_of(checkpoint.architecture)
    wanted = (environment or RunEnvironment()).on(str(pick_device(device)))
    return kept_table(
        checkpoint,
        wanted,
        (levels_of(attention), levels_of(ffn, multiple_of)),
        local.settings.cache_dir,
        lambda event: shown.show(event.type, event.model_dump(mode="json")),
    )


def _show(table: "LatencyTable") -> None:
    from cli.output import console, plain_table
    from compression.structure.words import environment_words

    shown = console()
    shown.print(environment_words(table.environment))
    rows = plain_table("half of a block", "units", "ms", "of the dense one")
    for name, times in (("attention", table.attention_s), ("feed-forward", table.ffn_s)):
        dense_s = times[max(times)]
        for units, seconds in sorted(times.items(), reverse=True):
            share = f"{seconds / dense_s:.0%}" if dense_s else ""
            rows.add_row(name, str(units), f"{seconds * 1e3:.3g}", share)
    shown.print(rows)
    shown.print(
        f"a forward takes {table.dense_s * 1e3:.4g} ms by this table, {table.fixed_s * 1e3:.3g} ms of them whatever is cut: "
        f"at most {table.highest_speedup:.3g} times as fast"
    )
