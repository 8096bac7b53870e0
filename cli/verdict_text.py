"""Figures, limits and verdicts for people."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cli.output import plain_table
from compression.report import Check, EvaluationResult, Perplexity, TextSet, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

NAMES = {
    "perplexity_ratio": "perplexity ratio",
    "kl": "KL, nats/token",
    "kl_p99": "KL at the 99th percentile",
    "top1_agreement": "top-1 agreement",
    "perplexity": "perplexity",
    "output_error": "relative output error",
    "accuracy_loss": "accuracy lost",
}
CONTEXT_SIGNS = 48


def verdict_line(verdict: Verdict | None) -> str:
    """`verdict: regressed (sotu: KL, nats/token 1.36 > 0.1)`."""
    if verdict is None:
        return "verdict: none, as nothing was held against a limit"
    failed = [check for check in verdict.checks if not check.passed]
    why = "; ".join(
        f"{check.text}: {NAMES[check.figure]} {check.value:.4g} {'<' if check.is_minimum else '>'} {check.limit:g}"
        for check in failed
    )
    return f"verdict: {verdict.outcome}" + (f" ({why})" if why else "")


def verdict_table(verdict: Verdict | None, note: str | None = None) -> "Iterator[RenderableType]":
    """Args: note: why there is none."""
    if verdict is None:
        yield note or "none: no text was evaluated, or no limit applies"
        return
    failed = sum(not check.passed for check in verdict.checks)
    yield f"{verdict.outcome}: " + (f"{failed} of {len(verdict.checks)} checks failed" if failed else "every check passed")
    table = plain_table("text", "figure", "value", "limit", "")
    for check in verdict.checks:
        table.add_row(check.text, NAMES[check.figure], *_against(check), "passed" if check.passed else "FAILED")
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


def windows_words(text: TextSet) -> str:
    """`20 of 141 x 2048`."""
    there = text.windows_in_text
    part = f" of {there}" if there is not None and there != text.windows else ""
    return f"{text.windows}{part} x {text.seqlen}"


def perplexity_words(perplexity: Perplexity) -> str:
    return with_error(perplexity.value, perplexity.standard_error)


def with_error(value: float, standard_error: float | None) -> str:
    return f"{value:.4g}" + ("" if standard_error is None else f" ± {standard_error:.2g}")


def printable(text: str) -> str:
    """A text of a model on one line: it may hold anything, and a terminal must not obey it."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _against(check: Check) -> tuple[str, str]:
    return with_error(check.value, check.standard_error), f"{'>=' if check.is_minimum else '<='} {check.limit:g}"
