"""Results side by side: a table, and bars of what each loses, the smallest file first."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import typer

from cli.output import plain_table
from cli.report_text import size
from compression.headline import made
from compression.report import Report
from compression.words import recipe_words, with_error

if TYPE_CHECKING:
    from rich.console import Console

BAR_SIGNS = 40
BEATEN = "dominated"


@dataclass(frozen=True)
class Candidate:
    """One result. Args: loss: how far from the dense model, 0 being as good: KL in nats a token, of an encoder the relative
    output error; None where nothing was evaluated. dominated_by: a result that is no larger and no worse, and better in one.
    """

    name: str
    model: str
    recipe: str
    format: str
    bytes: int
    loss: float | None
    loss_error: float | None
    figure: str
    ratio: float | None
    agreement: float | None
    verdict: str | None
    dominated_by: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def candidate_of(name: str, report: Report) -> Candidate:
    """The first text counts; the same one for all, where all were evaluated alike."""
    loss = loss_error = ratio = agreement = None
    figure = ""
    if report.results:
        first = report.results[0]
        loss, loss_error, ratio, agreement = first.kl, first.kl_standard_error, first.ratio, first.top1_agreement
        figure = f"KL on {first.text.source}, nats/token"
    elif report.output_errors:
        error = report.output_errors[0]
        loss, loss_error = error.relative_error, error.relative_error_standard_error
        figure = f"output error on {error.text.source}"
    told = {"method", "sparsity", "pattern", "bits", "group_size"}
    recipe = recipe_words(report.recipe.options.model_dump(include=told)) if report.recipe else made(report)
    return Candidate(
        name=name, model=report.model.source, recipe=recipe, format=report.output.format,
        bytes=report.sizes.artifact_bytes, loss=loss, loss_error=loss_error, figure=figure, ratio=ratio, agreement=agreement,
        verdict=report.verdict.outcome if report.verdict else None,
    )  # fmt: skip


def weighed(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The smallest first, each with the result that beats it, if one does."""
    found = [replace(one, dominated_by=_better(one, candidates)) for one in candidates]
    return sorted(found, key=lambda one: (one.bytes, one.loss if one.loss is not None else float("inf")))


def _better(one: Candidate, others: Sequence[Candidate]) -> str | None:
    for other in others:
        if one.loss is None or other.loss is None or other.figure != one.figure:
            continue
        is_no_worse = other.bytes <= one.bytes and other.loss <= one.loss
        if is_no_worse and (other.bytes, other.loss) != (one.bytes, one.loss):
            return other.name
    return None


def print_comparison(candidates: Sequence[Candidate], console: "Console") -> None:
    table = plain_table("result", "recipe", "format", "bytes", "loss", "perplexity ratio", "top-1 agreement", "verdict", "")
    for one in candidates:
        table.add_row(
            one.name, one.recipe, one.format, size(one.bytes),
            "" if one.loss is None else with_error(one.loss, one.loss_error),
            "" if one.ratio is None else f"{one.ratio:.4g}",
            "" if one.agreement is None else f"{one.agreement:.1%}",
            one.verdict or "", f"{BEATEN} by {one.dominated_by}" if one.dominated_by else "",
            style="dim" if one.dominated_by else None,
        )  # fmt: skip
    console.print(table)
    figures = {one.figure for one in candidates if one.loss is not None}
    if len(figures) > 1:
        typer.echo(f"not drawn, as they were measured differently: {'; '.join(sorted(figures))}")
    elif figures:
        typer.echo(f"{figures.pop()}, the smallest file first; shorter is better")
        _print_bars([one for one in candidates if one.loss is not None])


def _print_bars(candidates: Sequence[Candidate]) -> None:
    """Linear in the loss; a dominated one is drawn in lighter signs."""
    longest = max(max(one.loss or 0.0 for one in candidates), 1e-12)
    for one in candidates:
        signs = round(BAR_SIGNS * (one.loss or 0.0) / longest)
        bar = ("░" if one.dominated_by else "█") * max(signs, 1)
        typer.echo(f"{size(one.bytes):>9}  {bar} {one.loss:.4g}  {one.name}" + (f" ({BEATEN})" if one.dominated_by else ""))
