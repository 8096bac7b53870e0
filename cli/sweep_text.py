"""A sweep as a table: smallest first, what no other point beats marked."""

from typing import TYPE_CHECKING

from compression.words import recipe_words, size

if TYPE_CHECKING:
    from compression.sweep_report import SweepPoint, SweepReport

BEST = "*"


def show(report: "SweepReport") -> None:
    """Print the table, and what its marks mean."""
    from cli.output import console, plain_table

    table = plain_table("", "recipe", "bytes", "bits", "zeros", "perplexity", "ratio", "KL", "time")
    for point in sorted(report.points, key=_order):
        table.add_row(*_cells(point))
    shown = console()
    shown.print(table)
    shown.print(f"{BEST} no other point is as small and loses as little. Bytes: weights on disk, packed.")
    for point in report.failed:
        shown.print(f"{point.name} failed: {point.error}")


def _order(point: "SweepPoint") -> tuple[float, float]:
    found = point.figures
    return (float(found.packed_bytes), found.loss or 0.0) if found else (float("inf"), 0.0)


def _cells(point: "SweepPoint") -> list[str]:
    said = {name: value for name, value in point.recipe.items() if (name, value) != ("inputs", "dense")}
    mark, words, found = BEST if point.is_dominated is False else "", recipe_words(said), point.figures
    if found is None:
        return [mark, words, "failed" if point.error else "waiting", *[""] * 6]
    loss = found.output_error if found.perplexity_ratio is None else found.perplexity_ratio
    return [
        mark,
        words,
        size(found.packed_bytes),
        f"{found.bits_per_weight:.4g}",
        f"{found.sparsity:.1%}",
        _number(found.perplexity),
        _number(loss),
        _number(found.kl),
        f"{found.seconds:.0f} s",
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
