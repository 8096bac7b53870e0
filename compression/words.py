"""Figures, limits and verdicts in words: the same ones in the terminal, on the page and in the model card.

Torch-free, and imports nothing at run time, so that the command line may show them without opening a room.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compression.report import Check, Coverage, EvaluationResult, OutputErrorResult, Perplexity, Sizes, TextSet, Verdict

FIGURES = {
    "perplexity_ratio": "perplexity ratio",
    "kl": "KL, nats/token",
    "kl_p99": "KL at the 99th percentile",
    "top1_agreement": "top-1 agreement",
    "perplexity": "perplexity",
    "output_error": "relative output error",
    "accuracy_loss": "accuracy lost",
}


def size(size_bytes: float) -> str:
    """`269 MB`; powers of ten, as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.4g} TB"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    if not 0 <= seconds < 1e12:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def with_error(value: float, standard_error: float | None) -> str:
    return f"{value:.4g}" + ("" if standard_error is None else f" ± {standard_error:.2g}")


def perplexity_words(perplexity: "Perplexity") -> str:
    return with_error(perplexity.value, perplexity.standard_error)


def windows_words(text: "TextSet") -> str:
    """`20 of 141 x 2048`."""
    there = text.windows_in_text
    part = f" of {there}" if there is not None and there != text.windows else ""
    return f"{text.windows}{part} x {text.seqlen}"


def recipe_words(recipe: Mapping[str, object]) -> str:
    """`{"sparsity": 0.5, "pattern": "2:4"}` -> `sparsity 0.5, pattern 2:4`."""
    return ", ".join(f"{name} {value}" for name, value in recipe.items() if value is not None)


def goal_words(goal: Mapping[str, object]) -> str:
    """`{"metric": "bytes", "factor": 2}` -> `bytes / 2`, as `Goal.in_words` says it."""
    limit = goal.get("at_most")
    return f"{goal['metric']} / {goal['factor']:.12g}" if limit is None else f"{goal['metric']} <= {limit:.12g}"


def quality_words(result: "EvaluationResult") -> str:
    return (
        f"{result.text.source}: perplexity {perplexity_words(result.dense)} -> {perplexity_words(result.compressed)} "
        f"(x{result.ratio:.4g}), top-1 agreement {result.top1_agreement:.1%}"
    )


def embedding_words(result: "OutputErrorResult") -> str:
    """`, of embeddings 0.98 (same nearest neighbour for 95.0%)`; nothing where they are not known."""
    if result.embedding_cosine is None:
        return ""
    agreement = result.neighbour_agreement
    same = "" if agreement is None else f" (same nearest neighbour for {agreement:.1%})"
    return f", of embeddings {result.embedding_cosine:.4g}{same}"


def sizes_words(sizes: "Sizes") -> str:
    return (
        f"sparsity {sparsity(sizes):.2%} of {sizes.targeted_parameters:,} targeted "
        f"weights, {sizes.bits_per_targeted_weight:.4g} bits each; "
        f"weights on disk {size(sizes.source_bytes)} -> {size(sizes.artifact_bytes)}"
    )


def sparsity(sizes: "Sizes") -> float:
    """Zeros over targeted weights."""
    return sizes.zero_parameters / max(sizes.targeted_parameters, 1)


def verdict_line(verdict: "Verdict | None") -> str:
    """`verdict: regressed (sotu: KL, nats/token 1.36 > 0.1)`."""
    if verdict is None:
        return "verdict: none, as nothing was held against a limit"
    why = failures_words(verdict)
    return f"verdict: {verdict.outcome}" + (f" ({why})" if why else "")


def failures_words(verdict: "Verdict") -> str:
    """The checks that failed; empty where none did."""
    failed = [check for check in verdict.checks if not check.passed]
    return "; ".join(
        f"{check.text}: {FIGURES[check.figure]} {check.value:.4g} {'<' if check.is_minimum else '>'} {check.limit:g}"
        for check in failed
    )


def limit_words(check: "Check") -> str:
    return f"{'>=' if check.is_minimum else '<='} {check.limit:g}"


def reason_words(rows: "list[Coverage]", named: int = 1) -> dict[str, str]:
    """Reason -> the matrices that it is about, of which the first few are named."""
    words = {}
    for reason in dict.fromkeys(row.reason for row in rows if row.reason):
        names = [row.name for row in rows if row.reason == reason]
        more = len(names) - named
        words[reason] = ", ".join(names[:named]) + (f" and {more} more" if more > 0 else "")
    return words


def printable(text: str) -> str:
    """A text of a model on one line: it may hold anything, and a terminal must not obey it."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
