"""The layers and the sizes of a report in the terminal: figures, and pictures where somebody looks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.output import plain_table
from cli.sparklines import bar, sparkline
from compression.by_module import by_module
from compression.report import Report
from compression.words import size

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

FIGURES_WIDTH = 78  # of the columns beside the picture, and the longest usual name
MOST_SIGNS, FEWEST_SIGNS = 64, 8
BAR_SIGNS = 40


def layers_table(report: Report, console: "Console") -> "RenderableType":
    """A row for each kind of module: its errors, and in a terminal their course over depth."""
    signs = min(MOST_SIGNS, console.width - FIGURES_WIDTH)
    has_picture = console.is_terminal and signs >= FEWEST_SIGNS
    table = plain_table("module", "solved", "mean error", "worst", "in block", *(["by depth"] if has_picture else []))
    for kind in by_module(report):
        if not kind.layers:
            continue
        figures = ("", "", "")
        if kind.errors and kind.worst:
            mean = sum(kind.errors) / len(kind.errors)
            figures = (f"{mean:.3g}", f"{kind.worst.relative_error:.3g}", str(kind.worst.block))
        picture = [sparkline([cell.error for cell in kind.cells], signs)] if has_picture else []
        table.add_row(kind.name, str(len(kind.layers)), *figures, *picture)
    return table


def sizes_bars(report: Report, console: "Console") -> Iterator[str]:
    """Weights on disk before and after, by part; bars in a terminal."""
    sizes = report.sizes
    rows = [("all weights", sizes.source_bytes, sizes.artifact_bytes)]
    rows += [(part.name, part.source_bytes, part.artifact_bytes) for part in sizes.parts]
    names = max(len(name) for name, _, _ in rows)
    signs = min(BAR_SIGNS, console.width - names - 20)
    longest = max(sizes.source_bytes, sizes.artifact_bytes, 1)
    for name, before, after in rows:
        if not console.is_terminal or signs < FEWEST_SIGNS:
            yield f"{name:{names}}  {size(before)} -> {size(after)}"
            continue
        yield f"{name:{names}}  before {size(before):>8}  {bar(before / longest, signs)}"
        yield f"{'':{names}}  after  {size(after):>8}  {bar(after / longest, signs)}"
