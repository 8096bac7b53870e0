"""A report for people. Every figure comes from the report as it is; nothing is computed here but shares and units."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cli import evaluation_text
from cli.encoder_text import encoder_headlines, encoder_tables
from cli.exits import CommandError
from cli.output import plain_table
from cli.report_pictures import layers_table, sizes_bars
from cli.verdict_text import quality_table, verdict_table, worst_table
from compression.evaluation_report import EvaluationReport
from compression.goals.words import goal_details, goal_line
from compression.headline import made
from compression.report import Estimated, LayerResult, Report
from compression.structure.result import StructureResult
from compression.structure.words import structure_details, structure_line
from compression.words import (
    duration,
    printable,
    quality_words,
    reason_words,
    sizes_words,
    sparsity,
    verdict_line,
)
from compression.words import size as size  # `cli.estimate_text` looks for it here

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WORST = 5
MODELS = ("dense", "compressed")


def read_report(data: Mapping[str, Any]) -> Report | EvaluationReport:
    """Raises: CommandError: another version of Scalpel wrote it."""
    kind = EvaluationReport if data.get("kind") == "evaluation" else Report
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        version = data.get("report_version", "without a version")
        raise CommandError(
            f"this report (version {version}) is not one that this scalpel reads; --json shows it raw"
        ) from error


def headlines(report: Report | EvaluationReport) -> Iterator[str]:
    """The result in a few lines: the verdict first, then loss, sparsity, size."""
    if isinstance(report, EvaluationReport):
        yield from evaluation_text.headlines(report)
        return
    if report.verdict is not None:
        yield verdict_line(report.verdict)
    elif report.verdict_note is not None:
        yield report.verdict_note
    if report.goal is not None:
        yield goal_line(report.goal)
    if report.structure is not None:
        yield structure_line(report.structure)
    yield from map(quality_words, report.results)
    yield from encoder_headlines(report)
    yield sizes_words(report.sizes)


def print_report(report: Report | EvaluationReport, console: "Console") -> None:
    found = evaluation_text.sections(report) if isinstance(report, EvaluationReport) else _sections(report, console)
    for title, body in found:
        console.print(title, style="bold")
        for part in body:
            console.print(part)
        console.print()


def _sections(report: Report, console: "Console") -> "Iterator[tuple[str, Iterable[RenderableType]]]":
    yield "Verdict", verdict_table(report.verdict, report.verdict_note)
    yield "What was done", _task(report)
    if report.goal is not None:
        yield "Goal", goal_details(report.goal)
    if report.structure is not None:
        yield "Speed", structure_details(report.structure)
    yield "What was lost", _lost(report)
    if report.results:
        yield "Tokens that suffered most", (worst_table(report.results, *MODELS),)
    yield "What was won", (*_won(report), *sizes_bars(report, console))
    if report.structure is not None:
        yield "What is left of each block", (_blocks(report.structure),)
    else:
        yield "Layers", (layers_table(report, console),)
        yield f"Worst layers (of {len(report.layers)})", (_worst(report.layers),)
        yield "Coverage", _coverage(report)
    yield "Verification", (f"{report.verification.verdict}: {report.verification.detail} ({report.verification.loader})",)
    yield "Time and memory", _cost(report)
    yield "Sample", _sample(report)


def _task(report: Report) -> Iterator[str]:
    model, text = report.model, report.calibration_text
    yield (
        f"{model.source}{f' at {model.revision}' if model.revision else ''}: {model.architecture}, {model.blocks} blocks, "
        f"{model.parameters:,} parameters, {model.dtype}"
    )
    yield from (f"note: {note}" for note in model.notes)
    yield made(report)
    if text:
        yield f"calibrated on {text.source}: {text.windows} windows of {text.seqlen} tokens, seed {report.calibration.seed}"
    else:
        yield "no calibration: the method is data-free"
    if report.resumed_blocks:
        yield f"{report.resumed_blocks} blocks were finished by an earlier attempt"
    yield from (f"started over: {reason}" for reason in report.restarts)


def _lost(report: Report) -> "Iterable[RenderableType]":
    tables = [quality_table(report.results, *MODELS)] if report.results else []
    return [*tables, *encoder_tables(report)] or ["not evaluated: the request names no text"]


def _won(report: Report) -> Iterator[str]:
    sizes = report.sizes
    if report.structure is not None:
        yield sizes.note
        return
    yield f"{sparsity(sizes):.3%} of {sizes.targeted_parameters:,} targeted weights are zero"
    yield f"{sizes.bits_per_targeted_weight:.4g} bits per targeted weight"
    yield sizes.note


def _worst(layers: tuple[LayerResult, ...]) -> "RenderableType":
    known = [layer for layer in layers if layer.relative_error is not None]
    table = plain_table("layer", "shape", "method", "relative error", "sparsity", "bits", "fallbacks")
    for layer in sorted(known, key=lambda layer: layer.relative_error or 0.0, reverse=True)[:WORST]:
        table.add_row(
            layer.name,
            f"{layer.shape[0]} x {layer.shape[1]}",
            layer.method,
            f"{layer.relative_error:.4g}",
            f"{layer.sparsity:.3%}",
            str(layer.bits or ""),
            ", ".join(layer.fallbacks),
        )
    return table


def _blocks(found: StructureResult) -> "RenderableType":
    """A row for each block."""
    table = plain_table(
        "block", f"attention (of {found.dense.attention})", "error", f"columns (of {found.dense.ffn})", "error"
    )
    for number, block in enumerate(found.blocks):
        table.add_row(
            str(number),
            str(block.attention),
            f"{block.attention_error:.3g}",
            str(block.ffn),
            f"{block.ffn_error:.3g}",
        )
    return table


def _coverage(report: Report) -> Iterator[str]:
    for status in ("solved", "fallback", "skipped"):
        rows = [row for row in report.coverage if row.status == status]
        if rows or status == "solved":
            yield f"{len(rows)} {status}"
        yield from (f"  {reason}: {names}" for reason, names in reason_words(rows).items())


def _cost(report: Report) -> Iterator[str]:
    memory, environment = report.memory, report.environment
    yield ", ".join(f"{name} {duration(seconds)}" for name, seconds in report.seconds.items())
    if report.reused:
        yield f"reused from earlier jobs, at no cost: {', '.join(report.reused)}"
    device = "" if memory.device_peak_bytes is None else f", device {size(memory.device_peak_bytes)}"
    mode = "" if memory.mode == "standard" else f" ({memory.mode})"
    yield f"peak memory{mode}: host {size(memory.host_peak_bytes)}{device}"
    if report.estimated is not None:
        yield _expectation(report.estimated)
    yield (
        f"{environment.device_name} ({environment.device}), {environment.threads} threads, {environment.instruction_set}, "
        f"{environment.compute_dtype}"
    )


def _expectation(estimated: Estimated) -> str:
    """What had been expected, beside what it came to."""
    parts = [f"host {size(estimated.host_peak_bytes)}"]
    if estimated.device_peak_bytes is not None:
        parts.append(f"device {size(estimated.device_peak_bytes)}")
    if estimated.artifact_bytes is not None:
        parts.append(f"artifact {size(estimated.artifact_bytes)}")
    parts.append("time unknown" if estimated.seconds is None else f"time {duration(estimated.seconds)}")
    return f"expected before: {', '.join(parts)}"


def _sample(report: Report) -> Iterator[str]:
    if report.sample is None:
        yield report.sample_note or "none"
        return
    yield f"prompt:     {printable(report.sample.prompt)}"
    yield f"dense:      {printable(report.sample.dense)}"
    yield f"compressed: {printable(report.sample.compressed)}"
