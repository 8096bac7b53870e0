"""Pictures of letters: heights from zero, never wider than asked."""

import io

import pytest
from rich.console import Console

from cli.report_pictures import layers_table, sizes_bars
from cli.sparklines import bar, sparkline
from tests.compression import reports


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([0.0, 0.5, 1.0], 10, "▁▅█"),
        ([1.0, None, 2.0], 10, "▅·█"),
        ([1.0, 9.0, 1.0, 1.0], 2, "█▁"),
        ([float("nan"), float("inf"), 3.0], 10, "··█"),
        ([0.0, 0.0], 10, "▁▁"),
        ([], 10, ""),
        ([1.0], 0, ""),
    ],
)
def test_sparkline(values: list[float | None], width: int, line: str) -> None:
    assert sparkline(values, width) == line


@pytest.mark.parametrize(("share", "signs"), [(0, ""), (0.5, "████"), (1, "████████"), (2, "████████"), (0.0625 / 2, "▎")])
def test_bar(share: float, signs: str) -> None:
    assert bar(share, 8) == signs


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_pictures_stay_within_the_terminal(width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system=None)
    report = reports.report(blocks=100)
    console.print(layers_table(report, console))
    for line in sizes_bars(report, console):
        console.print(line)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any("█" in line and "q_proj" in line for line in lines) == (width > 86)
    assert any("before" in line and "538 MB" in line for line in lines) == (width >= 80)


def test_where_nobody_looks_there_are_figures_alone() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(layers_table(reports.report(), console))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue() + "\n".join(sizes_bars(reports.report(), console))
    assert "█" not in shown
    assert "self_attn.q_proj" in shown and "all weights" in shown and "538 MB -> 269 MB" in shown
