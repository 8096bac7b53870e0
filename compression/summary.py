"""What a finished pass amounts to: results by text, coverage, sizes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from compression.calibration import Windows
from compression.errors import VerificationError
from compression.labelled import summarise_choices
from compression.models.checkpoint import Checkpoint
from compression.models.ends import stored_ends
from compression.output_error import summarise_errors
from compression.plan import Plan
from compression.preparation import Job, Texts
from compression.protocol import Acceptance, OutputFormat
from compression.report import AccuracyResult, Coverage, EvaluationResult, LayerResult, OutputErrorResult, Sizes, Verdict
from compression.scoring import Scores
from compression.size_parts import size_parts
from compression.statistics import summarise, worst_tokens
from compression.verdict import compared, judge, of_labels, of_outputs, why_none

Score = TypeVar("Score")

WHY_NOT_SMALLER = {
    "dense": "the dense format keeps the source's dtype and layout, zeros stored as zeros and quantised weights de-quantised, "
    "so that the file loads everywhere",
}
OF_PACKED = "what stays dense (embedding, head, norms, matrices left alone) and the scales outweigh what the codes save"

WEIGHT_FILES = (".safetensors", ".gguf")
ROUNDED_REASON = "output.embeddings: 8 bits, rounded to nearest"


@dataclass(frozen=True)
class Findings:
    """What evaluation found, under the names of the report's fields."""

    results: tuple[EvaluationResult, ...]
    output_errors: tuple[OutputErrorResult, ...]
    accuracy: AccuracyResult | None
    acceptance: Acceptance
    verdict: Verdict | None
    verdict_note: str | None


def findings(texts: Texts, scores: Scores, acceptance: Acceptance) -> Findings:
    """Results of every kind, and the verdict over them, or why there is none."""
    of_models, of_encoders, of_classifiers = results(texts, scores), output_errors(texts, scores), accuracy(texts, scores)
    measured = [
        *map(compared, of_models),
        *map(of_outputs, of_encoders),
        *([of_labels(of_classifiers)] if of_classifiers else []),
    ]
    verdict = judge(acceptance, measured)
    note = None if verdict else why_none(measured)
    return Findings(of_models, of_encoders, of_classifiers, acceptance, verdict, note)


def results(texts: Texts, scores: Scores) -> tuple[EvaluationResult, ...]:
    """One result for each text of a language model."""
    return tuple(
        summarise(text.describe(), own, worst_tokens(own, text.ids_WL, texts.tokenizer))
        for text, own in _by_text(texts, scores.windows)
    )


def output_errors(texts: Texts, scores: Scores) -> tuple[OutputErrorResult, ...]:
    """One result for each text of an encoder."""
    return tuple(summarise_errors(text.describe(), own) for text, own in _by_text(texts, scores.errors))


def accuracy(texts: Texts, scores: Scores) -> AccuracyResult | None:
    return None if texts.labelled is None else summarise_choices(texts.labelled, scores.choices)


def _by_text(texts: Texts, scores: Sequence[Score]) -> Iterator[tuple[Windows, list[Score]]]:
    """The pass scored the windows of all texts in a row. Nothing where it scored none of this kind."""
    left = iter(scores)
    for windows in texts.evaluation if scores else ():
        yield windows, [next(left) for _ in range(len(windows.ids_WL))]


def coverage(plan: Plan, layers: Sequence[LayerResult]) -> tuple[Coverage, ...]:
    """What became of every matrix of the plan.

    Raises: VerificationError: a targeted matrix without a result; nothing may be skipped silently.
    """
    by_name = {layer.name: layer for layer in layers}
    rows = []
    for planned in plan.layers:
        result = by_name.get(planned.name)
        if planned.options is None:
            rows.append(Coverage(name=planned.name, status="skipped", reason=planned.skipped))
        elif result is None:
            raise VerificationError(f"{planned.name} was targeted, but nothing solved it and nothing says why")
        else:
            is_fallback = result.method != planned.options.method
            reason = "; ".join(result.fallbacks) or None
            rows.append(Coverage(name=planned.name, status="fallback" if is_fallback else "solved", reason=reason))
    return tuple(rows)


def rounded_ends(job: Job) -> tuple[Coverage, ...]:
    """Embedding and head, where the output rounds them; otherwise they are no one's concern."""
    names = () if job.output.embeddings == "keep" else stored_ends(job.checkpoint)
    return tuple(Coverage(name=name.removesuffix(".weight"), status="solved", reason=ROUNDED_REASON) for name in names)


def sizes(
    checkpoint: Checkpoint, plan: Plan, layers: Sequence[LayerResult], folder: Path, output_format: OutputFormat
) -> Sizes:
    """Bytes before and after, and what the targeted weights would need in a packed format."""
    source_bytes = checkpoint.size_bytes
    artifact_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.suffix in WEIGHT_FILES)
    parameters = [math.prod(layer.shape) for layer in layers]
    zeros = [round(layer.sparsity * count) for layer, count in zip(layers, parameters, strict=True)]
    bits = [layer.bits_per_weight * count for layer, count in zip(layers, parameters, strict=True)]
    return Sizes(
        source_bytes=source_bytes,
        artifact_bytes=artifact_bytes,
        targeted_parameters=sum(parameters),
        zero_parameters=sum(zeros),
        bits_per_targeted_weight=sum(bits) / sum(parameters),
        parts=size_parts(checkpoint, plan, folder, artifact_bytes),
        note=size_note(output_format, source_bytes, artifact_bytes),
    )


def size_note(output_format: OutputFormat, source_bytes: int, artifact_bytes: int) -> str:
    """How much smaller the artifact is than its source, or that it is not, and why."""
    if artifact_bytes < source_bytes:
        return f"The artifact takes {artifact_bytes / source_bytes:.1%} of its source's bytes."
    return f"The artifact is no smaller than its source: {WHY_NOT_SMALLER.get(output_format, OF_PACKED)}."
