"""The charts of a report but the layers' one: bars with their errors, sizes by part, time, memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from compression.page.svg import box, drawing, element, is_drawable, number, rule, ticks, words
from compression.report import Memory, Sizes
from compression.words import duration, size, with_error

WIDTH, LEFT, RIGHT = 740, 175, 130
MOST_SIGNS = 23  # left of it
BAR, GAP, GROUP = 16, 4, 14
AXIS = 26
SERIES = ("before", "after")  # classes of report.css: grey and solid, coloured and striped


@dataclass(frozen=True)
class Bar:
    """Args: label: stands left of it. kind: its class. shown: stands right of it; default: value and error."""

    label: str
    value: float
    standard_error: float | None = None
    kind: str = "after"
    shown: str | None = None

    @property
    def words(self) -> str:
        return self.shown or with_error(self.value, self.standard_error)

    @property
    def reach(self) -> float:
        end = self.value + (self.standard_error or 0.0)
        return end if is_drawable(end) else 0.0


def bars(title: str, groups: Sequence[Sequence[Bar]], unit: str = "") -> Markup:
    """Horizontal bars from zero, with whiskers of one standard error to each side."""
    heights = [len(group) * (BAR + GAP) + GROUP for group in groups]
    bottom = sum(heights)
    marks = ticks(max((bar.reach for group in groups for bar in group), default=0.0))
    scale = (WIDTH - LEFT - RIGHT) / marks[-1]
    drawn: list[Markup] = []
    for mark in marks:
        x = LEFT + mark * scale
        drawn += [rule(x, 0, x, bottom, "grid"), words(x, bottom + 14, f"{mark:.4g}{unit}", "middle", "small")]
    y = GROUP / 2
    for group, height in zip(groups, heights, strict=True):
        for row, bar in enumerate(group):
            drawn.append(_bar(bar, y + row * (BAR + GAP), scale))
        y += height
    spoken = "; ".join(f"{bar.label}: {bar.words}" for group in groups for bar in group)
    return drawing(WIDTH, bottom + AXIS, title, spoken, *drawn)


def _bar(bar: Bar, y: float, scale: float) -> Markup:
    """One bar; a value that is no number has words and no bar."""
    middle = y + BAR / 2
    length = bar.value * scale if is_drawable(bar.value) else 0.0
    parts = [
        words(LEFT - 8, middle + 4, shortened(bar.label), "end"),
        box(LEFT, y, length, BAR, bar.kind, f"{bar.label}: {bar.words}"),
    ]
    end = length
    if bar.standard_error is not None and bar.reach:
        low, end = LEFT + (bar.value - bar.standard_error) * scale, bar.reach * scale
        high = LEFT + end
        parts += [rule(low, middle, high, middle, "whisker")]
        parts += [rule(x, middle - 4, x, middle + 4, "whisker") for x in (low, high)]
    parts.append(words(LEFT + max(length, end) + 6, middle + 4, bar.words))
    return element("g", *parts)


def sizes_chart(sizes: Sizes) -> Markup:
    """Weights on disk by part: one stacked bar before, one after."""
    highest = max(sizes.source_bytes, sizes.artifact_bytes, 1)
    scale = (WIDTH - LEFT - RIGHT) / highest
    drawn: list[Markup] = []
    for row, (label, total) in enumerate((("before", sizes.source_bytes), ("after", sizes.artifact_bytes))):
        y, x = 4.0 + row * (BAR + 12), float(LEFT)
        drawn.append(words(LEFT - 8, y + 12, label, "end"))
        for index, part in enumerate(sizes.parts):
            size_bytes = part.artifact_bytes if row else part.source_bytes
            drawn.append(box(x, y, size_bytes * scale, BAR, f"part{index % 4}", f"{label}, {part.name}: {size(size_bytes)}"))
            x += size_bytes * scale
        if not sizes.parts:
            drawn.append(box(x, y, total * scale, BAR, SERIES[row], f"{label}: {size(total)}"))
        drawn.append(words(LEFT + total * scale + 6, y + 12, size(total)))
    x = float(LEFT)
    for index, part in enumerate(sizes.parts):
        drawn += [box(x, 64, 10, 10, f"part{index % 4}"), words(x + 14, 73, part.name, class_="small")]
        x += 30 + 5.6 * len(part.name)
    spoken = f"before {size(sizes.source_bytes)}, after {size(sizes.artifact_bytes)}; the table beside it has the parts"
    return drawing(WIDTH, 80, "Weights on disk by part", spoken, *drawn)


def time_chart(seconds: dict[str, float]) -> Markup:
    total = sum(seconds.values())
    shares = {name: f" ({spent / total:.0%})" if is_drawable(total) else "" for name, spent in seconds.items()}
    shown = [Bar(name, spent, shown=duration(spent) + shares[name]) for name, spent in seconds.items()]
    return bars("Time by activity, in seconds", [[bar] for bar in shown], " s")


def memory_chart(memory: Memory) -> Markup | None:
    """Memory over time; None where too few points are known for a line."""
    points = memory.over_time
    if len(points) < 2 or not is_drawable(points[-1].seconds):
        return None
    height, top = 150, 10
    lines = {"host": [point.host_bytes for point in points]}
    if any(point.device_bytes for point in points):
        lines["device"] = [point.device_bytes or 0 for point in points]
    marks, end = ticks(max(max(line) for line in lines.values()) / 1e6, 4), points[-1].seconds
    across, up = (WIDTH - LEFT - RIGHT) / end, (height - top) / (marks[-1] * 1e6)
    drawn: list[Markup] = []
    for mark in marks:
        y = height - mark * 1e6 * up
        drawn += [rule(LEFT, y, WIDTH - RIGHT, y, "grid"), words(LEFT - 8, y + 4, size(mark * 1e6), "end", "small")]
    for mark in ticks(end)[:-1]:
        drawn.append(words(LEFT + mark * across, height + 16, duration(mark), "middle", "small"))
    for name, line in lines.items():
        path = " ".join(
            f"{number(LEFT + point.seconds * across)},{number(height - value * up)}"
            for point, value in zip(points, line, strict=True)
        )
        drawn.append(element("polyline", element("title", f"{name}: at most {size(max(line))}"), points=path, class_=name))
        drawn.append(words(WIDTH - RIGHT + 6, height - line[-1] * up + 4, name))
    spoken = "; ".join(f"{name}: at most {size(max(line))}" for name, line in lines.items())
    return drawing(WIDTH, height + AXIS, "Memory over time", f"over {duration(end)}; {spoken}", *drawn)


def shortened(label: str) -> str:
    """A label that fits left of a chart; of long ones the end, which says most of a path or a module."""
    return label if len(label) <= MOST_SIGNS else f"…{label[1 - MOST_SIGNS :]}"
