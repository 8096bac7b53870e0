"""`scalpel submit`: ask the service for a compression or an evaluation."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import flags
from cli.exits import Exit
from cli.jobs import Json
from cli.service import DEFAULT_DATA_DIR, DataDir, Url, connect
from cli.watch import follow, outcome, tell_outcome

if TYPE_CHECKING:
    from client import Job, Scalpel


def submit(
    model: flags.ModelArg,
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
    is_evaluation: Annotated[
        bool, typer.Option("--evaluate", help="Solve nothing: evaluate the model, with --reference against another.")
    ] = False,
    reference: flags.Reference = None,
    label: flags.Label = None,
    is_watched: flags.Watched = False,
    is_json: Json = False,
    url: Url = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> int:
    """Ask for a compression and print the job's id.

    Example: scalpel submit demo:smollm2-135m --pattern 2:4 --watch
    """
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
    limits = flags.acceptance(
        max_perplexity_ratio=max_perplexity_ratio, max_kl=max_kl, max_kl_p99=max_kl_p99,
        min_top1_agreement=min_top1_agreement, max_perplexity=max_perplexity,
        max_output_error=max_output_error, max_accuracy_loss=max_accuracy_loss,
    )  # fmt: skip
    parts: dict[str, Any] = {"labels": flags.labels(label), **texts} | ({"acceptance": limits} if limits else {})
    if reference is not None:
        parts["reference"] = flags.source(reference)
    if written := flags.output(format=format, embeddings=embeddings):
        parts["output"] = written
    with connect(url, data_dir) as service:
        if is_evaluation:  # what it has no use for is sent only where it was said, and then refused by name
            said = {name: value for name, value in {"recipe": wanted, **parts}.items() if value}
            job = service.evaluate(flags.source(model), **said)
        else:
            job = service.submit(flags.source(model), wanted, **parts)
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
    if job.forecast and job.forecast.note:
        typer.echo(f"note: {job.forecast.note}", err=True)
    typer.echo(f"{job.state}; follow it with: scalpel watch {job.id}", err=True)
