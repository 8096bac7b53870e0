"""The report of an evaluation for people. Every figure comes from the report as it is."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cli.output import plain_table
from cli.verdict_text import quality_table, verdict_table, worst_table
from compression.evaluation_report import EvaluationReport, Tasks
from compression.report import ModelInfo
from compression.words import perplexity_words, printable, verdict_line, windows_words, with_error

if TYPE_CHECKING:
    from rich.console import RenderableType

REFERENCE, EVALUATED = "reference", "evaluated"


def headlines(report: EvaluationReport) -> Iterator[str]:
    """The result in a few lines, the verdict first."""
    if report.verdict is not None:
        yield verdict_line(report.verdict)
    for result in report.results:
        words = f"{result.text.source}: perplexity {perplexity_words(result.perplexity)}"
        if result.comparison is not None:
            other = result.comparison
            words += f", reference {perplexity_words(other.dense)} (x{other.ratio:.4g}), KL {other.kl:.4g} nats/token"
            words += f", top-1 agreement {other.top1_agreement:.1%}"
        yield words
    if report.tasks is not None:
        for found in report.tasks.results:
            yield f"{found.task}: {found.metric} {with_error(found.value, found.standard_error)} {found.unit}".rstrip()


def sections(report: EvaluationReport) -> "Iterator[tuple[str, Iterable[RenderableType]]]":
    comparisons = [result.comparison for result in report.results if result.comparison is not None]
    yield "Verdict", verdict_table(report.verdict)
    reused = (f"reused from earlier jobs, at no cost: {', '.join(report.reused)}",) if report.reused else ()
    yield "What was evaluated", (_model(report.model), *(f"note: {note}" for note in report.model.notes), *reused)
    if report.reference is not None:
        yield "Compared with", (_model(report.reference), *(f"note: {note}" for note in report.reference.notes))
    if comparisons:
        yield "Figures", (quality_table(comparisons, REFERENCE, EVALUATED),)
        yield "Tokens that suffered most", (worst_table(comparisons, REFERENCE, EVALUATED),)
    elif report.results:
        yield "Figures", (_alone(report),)
    yield "Sample", _sample(report)
    if report.tasks is not None:
        yield f"Tasks (lm-eval {report.tasks.version})", (_tasks(report.tasks),)


def _sample(report: EvaluationReport) -> Iterator[str]:
    if report.sample is None:
        yield report.sample_note or "none"
        return
    yield f"prompt:    {printable(report.sample.prompt)}"
    if report.sample.reference is not None:
        yield f"reference: {printable(report.sample.reference)}"
    yield f"evaluated: {printable(report.sample.evaluated)}"


def _model(model: ModelInfo) -> str:
    revision = f" at {model.revision}" if model.revision else ""
    return f"{model.source}{revision}: {model.architecture}, {model.blocks} blocks, {model.dtype}"


def _alone(report: EvaluationReport) -> "RenderableType":
    table = plain_table("text", "protocol", "windows", "perplexity")
    for result in report.results:
        text = result.text
        table.add_row(text.source, text.protocol, windows_words(text), perplexity_words(result.perplexity))
    return table


def _tasks(tasks: Tasks) -> "RenderableType":
    table = plain_table("task", "metric", "value", "unit", "samples")
    for found in tasks.results:
        metric = found.metric if found.filter is None else f"{found.metric} ({found.filter})"
        table.add_row(found.task, metric, with_error(found.value, found.standard_error), found.unit, str(found.samples or ""))
    return table
