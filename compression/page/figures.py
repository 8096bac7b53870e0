"""Which figures of a report become bars, and what an evaluation alone says in its first lines."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from compression.evaluation_report import EvaluationReport
from compression.page.charts import Bar, bars
from compression.report import EvaluationResult, Perplexity, Report
from compression.words import failures_words, perplexity_words, windows_words, with_error

Captioned = tuple[str, Markup]


def quality_charts(report: Report) -> list[Captioned]:
    """Dense against compressed, with error bars: perplexity, an encoder's output error, accuracy; none without evaluation."""
    charts = []
    if report.results:
        charts.append(_perplexities(report.results, "dense", "compressed"))
    if report.output_errors:
        errors = [
            [Bar(found.text.source, found.relative_error, found.relative_error_standard_error)]
            for found in report.output_errors
        ]
        charts.append(_captioned("Relative error of the last hidden states", errors))
    if report.accuracy:
        found = report.accuracy
        pair = (
            Bar("dense", found.dense, found.dense_standard_error, "before"),
            Bar("compressed", found.compressed, found.compressed_standard_error),
        )
        charts.append(_captioned(f"Accuracy on {found.source}", [pair]))
    return charts


def evaluation_charts(report: EvaluationReport) -> list[Captioned]:
    compared = tuple(result.comparison for result in report.results if result.comparison)
    if compared:
        return [_perplexities(compared, "reference", "evaluated")]
    alone = [[Bar(found.text.source, found.perplexity.value, found.perplexity.standard_error)] for found in report.results]
    return [_captioned("Perplexity", alone)] if alone else []


def evaluation_lines(report: EvaluationReport) -> tuple[tuple[str, str], ...]:
    """Asked, found, and whether it was within its limits."""
    against = f" against {report.reference.source}" if report.reference else ""
    texts = ", ".join(f"{found.text.source} ({windows_words(found.text)} tokens)" for found in report.results)
    return (
        ("Asked", f"Evaluate {report.model.source}{against}" + (f" on {texts}." if texts else ".")),
        ("Found", " ".join(_found(report)) or "Nothing was measured."),
        ("Accepted?", _judgement(report)),
    )


def _found(report: EvaluationReport) -> Iterator[str]:
    for result in report.results:
        words = f"{result.text.source}: perplexity {perplexity_words(result.perplexity)}"
        if (other := result.comparison) is not None:
            words += f", reference {perplexity_words(other.dense)} (×{other.ratio:.4g}), KL {other.kl:.4g} nats/token"
            words += f", same first choice for {other.top1_agreement:.1%} of tokens"
        yield f"{words}."
    for task in report.tasks.results if report.tasks else ():
        yield f"{task.task}: {task.metric} {with_error(task.value, task.standard_error)} {task.unit}".rstrip() + "."


def _judgement(report: EvaluationReport) -> str:
    if report.verdict is None:
        return "Judge for yourself: no limit applies to what was measured."
    if report.verdict.outcome == "accepted":
        return f"Yes: within every limit that was set ({len(report.verdict.checks)} checks passed)."
    return f"No: {failures_words(report.verdict)}."


def _perplexities(results: tuple[EvaluationResult, ...], before: str, after: str) -> Captioned:
    many = len(results) > 1
    groups = [
        (
            Bar(f"{result.text.source}: {before}" if many else before, *_value(result.dense), "before"),
            Bar(f"{result.text.source}: {after}" if many else after, *_value(result.compressed)),
        )
        for result in results
    ]
    named = "" if many else f" on {results[0].text.source}"
    return _captioned(f"Perplexity{named}, lower is better; whiskers are one standard error", groups)


def _captioned(caption: str, groups: Sequence[Sequence[Bar]]) -> Captioned:
    return caption, bars(caption, groups)


def _value(perplexity: Perplexity) -> tuple[float, float | None]:
    return perplexity.value, perplexity.standard_error
