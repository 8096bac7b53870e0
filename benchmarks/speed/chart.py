"""A stacked bar chart as SVG, readable on light and on dark pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.speed.stages import STAGES

COLOURS = dict(
    zip(
        STAGES,
        (
            "#9aa0a6", "#c8b6a6", "#4e79a7", "#e15759", "#b07aa1", "#f28e2b",
            "#d4a6c8", "#76b7b2", "#59a14f", "#edc948", "#bab0ac", "#d0d0d0",
        ),
        strict=True,
    )
)  # fmt: skip
WIDTH, LEFT, RIGHT = 920, 210, 70
BAR_HEIGHT, GAP, LEGEND_COLUMNS, LEGEND_ROW = 22, 10, 4, 20
STYLE = """text { font: 13px system-ui, sans-serif; fill: #1f2328 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }"""


@dataclass(frozen=True)
class Bar:
    """One system. Args: seconds: by stage."""

    label: str
    seconds: Mapping[str, float]


def write_chart(path: Path, title: str, bars: Sequence[Bar]) -> None:
    """Where the time goes: one bar a system, one colour a stage."""
    shown = [stage for stage in STAGES if any(bar.seconds.get(stage, 0) > 0 for bar in bars)]
    longest_s = max(sum(bar.seconds.values()) for bar in bars)
    scale = (WIDTH - LEFT - RIGHT) / longest_s
    top = 40 + LEGEND_ROW * -(-len(shown) // LEGEND_COLUMNS)
    height = top + len(bars) * (BAR_HEIGHT + GAP) + GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<text x="10" y="22" font-weight="bold">{escape(title)}</text>',
        *_legend(shown),
        *(line for index, bar in enumerate(bars) for line in _bar(bar, shown, top + index * (BAR_HEIGHT + GAP), scale)),
        "</svg>",
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _legend(stages: Sequence[str]) -> list[str]:
    lines = []
    for index, stage in enumerate(stages):
        x, y = 10 + (index % LEGEND_COLUMNS) * (WIDTH // LEGEND_COLUMNS), 36 + index // LEGEND_COLUMNS * LEGEND_ROW
        lines.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{COLOURS[stage]}"/>')
        lines.append(f'<text x="{x + 18}" y="{y + 11}">{escape(stage)}</text>')
    return lines


def _bar(bar: Bar, stages: Sequence[str], y: int, scale: float) -> list[str]:
    x, middle = float(LEFT), y + BAR_HEIGHT // 2 + 5
    lines = [f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>']
    for stage in stages:
        width = max(bar.seconds.get(stage, 0.0), 0.0) * scale
        if width > 0:
            tip = f"<title>{escape(stage)}: {bar.seconds[stage]:.1f} s</title>"
            rect = f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{COLOURS[stage]}">'
            lines.append(f"{rect}{tip}</rect>")
        x += width
    lines.append(f'<text x="{x + 6:.1f}" y="{middle}">{sum(bar.seconds.values()):.3g} s</text>')
    return lines
