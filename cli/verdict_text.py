"""Tables of figures, limits and verdicts."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cli.output import plain_table
from compression.report import EvaluationResult, Verdict
from compression.words import FIGURES, limit_words, perplexity_words, printable, windows_words, with_error

if TYPE_CHECKING:
    from rich.console import RenderableType

CONTEXT_SIGNS = 48


def verdict_table(verdict: Verdict | None, note: str | None = None) -> "Iterator[RenderableType]":
    """Args: note: why there is none."""
    if verdict is None:
        yield note or "none: no text was evaluated, or no limit applies"
        return
    failed = sum(not check.passed for check in verdict.checks)
    yield f"{verdict.outcome}: " + (f"{failed} of {len(verdict.checks)} checks failed" if failed else "every check passed")
    table = plain_table("text", "figure", "value", "limit", "")
    for check in verdict.checks:
        table.add_row(
            check.text,
            FIGURES[check.figure],
            with_error(check.value, check.standard_error),
            limit_words(check),
            "passed" if check.passed else "FAILED",
        )
    yield table


def quality_table(results: Iterable[EvaluationResult], dense: str, compressed: str) -> "RenderableType":
    """Args: dense, compressed: what the two models are called."""
    columns = ("text", "protocol", "windows", f"{dense} perplexity", compressed, "ratio", "KL, nats/token", "KL p99")
    table = plain_table(*columns, "top-1 agreement")
    for result in results:
        table.add_row(
            result.text.source,
            result.text.protocol,
            windows_words(result.text),
            perplexity_words(result.dense),
            perplexity_words(result.compressed),
            f"{result.ratio:.4g}",
            with_error(result.kl, result.kl_standard_error),
            f"{result.kl_p99:.4g}",
            with_error(result.top1_agreement, result.top1_agreement_standard_error),
        )
    return table


def worst_table(results: Iterable[EvaluationResult], dense: str, compressed: str) -> "RenderableType":
    table = plain_table("text", "after", "comes", f"{dense} says", f"{compressed} says", "loss, nats")
    for result in results:
        for token in result.worst_tokens:
            table.add_row(
                result.text.source,
                printable(token.context)[-CONTEXT_SIGNS:],
                repr(token.token),
                repr(token.dense_choice),
                repr(token.compressed_choice),
                f"{token.dense_loss:.3g} -> {token.compressed_loss:.3g}",
            )
    return table
