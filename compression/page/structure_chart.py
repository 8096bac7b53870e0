"""A model that was cut: how much is left of the halves of each block, and how long a forward takes before and after."""

from markupsafe import Markup

from compression.page.charts import LEFT, RIGHT, WIDTH, Bar, bars
from compression.page.layers_chart import GAP, HEIGHT, STEPS, WIDEST, block_numbers
from compression.page.svg import box, drawing, words
from compression.structure.result import Speed, StructureResult

LEGEND = 40
ROWS = ("attention", "feed-forward")


def speed_chart(speed: Speed) -> Markup:
    """Milliseconds of both models."""
    shown = ((speed.dense_s, "dense", "before"), (speed.shrunk_s, "shrunk", "after"))
    drawn = [Bar(label, seconds * 1e3, kind=kind, shown=f"{seconds * 1e3:.4g} ms") for seconds, label, kind in shown]
    return bars("Time of a forward", [drawn], " ms")


def structure_strip(found: StructureResult) -> Markup:
    """A row for each half, a cell for each block, shaded by the share of its units that are left; nothing left is empty."""
    width = min(WIDEST, (WIDTH - LEFT - RIGHT) / len(found.blocks))
    drawn: list[Markup] = [words(LEFT - 8, row * (HEIGHT + GAP) + 13, name, "end") for row, name in enumerate(ROWS)]
    for number, block in enumerate(found.blocks):
        for row, (left, all_units) in enumerate(((block.attention, found.dense.attention), (block.ffn, found.dense.ffn))):
            told = f"{ROWS[row]}, block {number}: {left} of {all_units} units"
            drawn.append(
                box(LEFT + number * width + 0.5, row * (HEIGHT + GAP), width - 1, HEIGHT, _shade(left, all_units), told)
            )
    bottom = len(ROWS) * (HEIGHT + GAP)
    drawn += block_numbers({number: number for number in range(len(found.blocks))}, width, bottom)
    drawn += [box(LEFT, bottom + 24, 14, 10, "none"), words(LEFT + 20, bottom + 33, "gone", class_="small")]
    drawn += [box(LEFT + 70, bottom + 24, 14, 10, "h0"), words(LEFT + 90, bottom + 33, "few left", class_="small")]
    drawn += [
        box(LEFT + 150, bottom + 24, 14, 10, f"h{STEPS - 1}"),
        words(LEFT + 170, bottom + 33, "all left", class_="small"),
    ]
    spoken = ", ".join(f"block {number}: {block.attention} and {block.ffn}" for number, block in enumerate(found.blocks))
    return drawing(WIDTH, bottom + LEGEND, "Units of attention and feed-forward left in each block", spoken, *drawn)


def _shade(left: int, all_units: int) -> str:
    return "none" if left == 0 else f"h{min(STEPS - 1, int(STEPS * left / all_units))}"
