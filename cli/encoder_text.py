"""What an encoder lost, for people: the error of its outputs, and its accuracy where labelled texts were given."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.output import plain_table
from compression.report import AccuracyResult, Report
from compression.words import embedding_words, windows_words, with_error

if TYPE_CHECKING:
    from rich.console import RenderableType


def encoder_headlines(report: Report) -> Iterator[str]:
    for result in report.output_errors:
        yield (
            f"{result.text.source}: relative output error "
            f"{with_error(result.relative_error, result.relative_error_standard_error)}, "
            f"cosine {with_error(result.cosine, result.cosine_standard_error)}{embedding_words(result)}"
        )
    if report.accuracy is not None:
        found = report.accuracy
        yield (
            f"{found.source}: accuracy {with_error(found.dense, found.dense_standard_error)} -> "
            f"{with_error(found.compressed, found.compressed_standard_error)} on {found.texts} texts, "
            f"agreement {found.agreement:.1%}"
        )


def encoder_tables(report: Report) -> "Iterator[RenderableType]":
    if report.output_errors:
        table = plain_table(
            "text", "protocol", "windows", "relative output error", "cosine", "of embeddings", "same neighbour"
        )
        for result in report.output_errors:
            table.add_row(
                result.text.source,
                result.text.protocol,
                windows_words(result.text),
                with_error(result.relative_error, result.relative_error_standard_error),
                with_error(result.cosine, result.cosine_standard_error),
                "" if result.embedding_cosine is None else f"{result.embedding_cosine:.4g}",
                "" if result.neighbour_agreement is None else f"{result.neighbour_agreement:.1%}",
            )
        yield table
    if report.accuracy is not None:
        yield _accuracy(report.accuracy)


def _accuracy(found: AccuracyResult) -> "RenderableType":
    table = plain_table("labelled texts", "count", "dense accuracy", "compressed", "lost", "agreement")
    table.add_row(
        found.source,
        str(found.texts),
        with_error(found.dense, found.dense_standard_error),
        with_error(found.compressed, found.compressed_standard_error),
        with_error(found.loss, found.loss_standard_error),
        with_error(found.agreement, found.agreement_standard_error),
    )
    return table
