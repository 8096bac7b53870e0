"""`scalpel compress`: the library alone, in this process; no service, no database."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from cli import flags
from cli.exits import CommandError, Exit
from cli.progress import Display, display
from cli.service import DEFAULT_DATA_DIR, DataDir

if TYPE_CHECKING:
    from pydantic import BaseModel

    from compression.protocol import Acceptance, Calibration, Evaluation, Output
    from compression.report import Report

Part = TypeVar("Part", bound="BaseModel")


def compress(
    model: flags.ModelArg,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the result; must not exist yet.")],
    recipe: flags.RecipeFile = None,
    method: flags.Method = None,
    sparsity: flags.Sparsity = None,
    pattern: flags.Pattern = None,
    bits: flags.Bits = None,
    group_size: flags.GroupSize = None,
    symmetric: flags.Symmetric = None,
    grid: flags.Grid = None,
    offset: flags.Offset = None,
    act_order: flags.ActOrder = None,
    static_groups: flags.StaticGroups = None,
    outlier_threshold: flags.OutlierThreshold = None,
    damp: flags.Damp = None,
    block_size: flags.BlockSize = None,
    force: flags.Force = None,
    true_sequential: flags.TrueSequential = None,
    asymmetric_calibration: flags.AsymmetricCalibration = None,
    ignore: flags.Ignore = None,
    skip_block: flags.SkipBlock = None,
    calibration: flags.CalibrationText = None,
    nsamples: flags.Nsamples = None,
    seqlen: flags.Seqlen = None,
    seed: flags.Seed = None,
    evaluation: flags.EvalText = None,
    windows: flags.Windows = None,
    eval_seqlen: flags.EvalSeqlen = None,
    labelled: flags.Labelled = None,
    max_perplexity_ratio: flags.MaxPerplexityRatio = None,
    max_kl: flags.MaxKl = None,
    max_kl_p99: flags.MaxKlP99 = None,
    min_top1_agreement: flags.MinTop1Agreement = None,
    max_perplexity: flags.MaxPerplexity = None,
    max_output_error: flags.MaxOutputError = None,
    max_accuracy_loss: flags.MaxAccuracyLoss = None,
    format: flags.Format = None,
    embeddings: flags.Embeddings = None,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `cuda:N`.")] = "auto",
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compress a model right here, without a service. Run it again to continue after an interruption.

    Example: scalpel compress demo:smollm2-135m --bits 4 -o smollm2-4bit
    """
    from compression.protocol import Acceptance, Calibration, Evaluation, Output

    wanted = flags.recipe(
        recipe,
        method=method, sparsity=sparsity, pattern=pattern, bits=bits, group_size=group_size, symmetric=symmetric, grid=grid,
        offset=offset, act_order=act_order, static_groups=static_groups, outlier_threshold=outlier_threshold, damp=damp,
        block_size=block_size, true_sequential=true_sequential, asymmetric_calibration=asymmetric_calibration,
        ignore=ignore, skip_blocks=skip_block, force=force,
    )  # fmt: skip
    texts = flags.texts(
        calibration=calibration, nsamples=nsamples, seqlen=seqlen, seed=seed,
        evaluation=evaluation, windows=windows, eval_seqlen=eval_seqlen, labelled=labelled,
    )  # fmt: skip
    calibrated, evaluated = (part(Calibration, texts["calibration"]), part(Evaluation, texts["evaluation"]))
    limits = flags.acceptance(
        max_perplexity_ratio=max_perplexity_ratio, max_kl=max_kl, max_kl_p99=max_kl_p99,
        min_top1_agreement=min_top1_agreement, max_perplexity=max_perplexity,
        max_output_error=max_output_error, max_accuracy_loss=max_accuracy_loss,
    )  # fmt: skip
    accepted, written = part(Acceptance, limits), part(Output, flags.output(format=format, embeddings=embeddings))
    try:
        with display() as shown:
            report = _compress(
                flags.source(model), wanted, output, calibrated, evaluated, accepted, written, device, data_dir, shown
            )
    except KeyboardInterrupt:
        raise CommandError("interrupted; the same command continues from the last finished block", Exit.INTERRUPTED) from None
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
    data_dir: Path,
    shown: Display,
) -> "Report":
    from compression.corpora import text_uses
    from compression.recipe import parse_recipe, resolve
    from jobs.fetch import fetch_model, fetch_texts
    from jobs.settings import Settings

    if output.exists():  # a refusal is due before the download and before torch is loaded
        raise CommandError(f"{output} exists already, and nothing is overwritten; name another folder with -o", Exit.REFUSED)
    parsed = parse_recipe(recipe)
    resolve(parsed, written.format)
    settings = Settings.from_mapping({**os.environ, "SCALPEL_DATA_DIR": str(data_dir)})

    def note(message: str) -> None:
        shown.show("note", {"message": message})

    shown.show("stage", {"stage": "fetching"})
    source = fetch_model(model, settings, note, any_path=True)
    texts = fetch_texts(text_uses(calibration.source, evaluation.texts), settings, note, any_path=True)

    # Read when torch is loaded. A thread that spins at a barrier takes the core from the one it waits for, which makes a busy
    # machine many times slower; the service's runner is told the same.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from compression.compress import compress as run

    return run(
        source,
        parsed,
        output,
        calibration=calibration,
        evaluation=evaluation,
        acceptance=acceptance,
        output=written,
        texts=texts,
        cache=settings.cache_dir,
        device=device,
        on_event=lambda event: shown.show(event.type, event.model_dump(mode="json")),
    )


def part(kind: type[Part], said: dict[str, Any]) -> Part:
    """Raises: CommandError: a value out of range."""
    from pydantic import ValidationError

    try:
        return kind.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join([kind.__name__.lower(), *map(str, first["loc"])])
        raise CommandError(f"{field}: {first['msg']}", Exit.REFUSED) from error
