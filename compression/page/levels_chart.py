"""Which level each matrix of a model was given: a row for each kind of matrix, a column for each block."""

import re

from markupsafe import Markup

from compression.goals.result import GoalResult, LevelUse
from compression.page.charts import LEFT, RIGHT, WIDTH, shortened
from compression.page.layers_chart import GAP, HEIGHT, STEPS, WIDEST, block_numbers
from compression.page.svg import box, drawing, words

BLOCK = re.compile(r"\.(\d+)\.")  # the first number in a module's name is its block's
LEGEND = 40


def level_strip(goal: GoalResult) -> Markup | None:
    """Shaded from the first level, lightest, to the last; None where no name tells its block."""
    places = [(found, use) for use in goal.profile if (found := BLOCK.search(use.matrix))]
    if not places:
        return None
    shades = {level: _shade(number, len(goal.levels)) for number, level in enumerate(goal.levels)}
    kinds = list(dict.fromkeys(use.matrix[found.end() :] for found, use in places))
    blocks = sorted({int(found[1]) for found, _ in places})
    columns = {block: column for column, block in enumerate(blocks)}
    width = min(WIDEST, (WIDTH - LEFT - RIGHT) / len(blocks))
    drawn = [words(LEFT - 8, row * (HEIGHT + GAP) + 13, shortened(kind), "end") for row, kind in enumerate(kinds)]
    for found, use in places:
        x, y = LEFT + columns[int(found[1])] * width, kinds.index(use.matrix[found.end() :]) * (HEIGHT + GAP)
        drawn.append(box(x + 0.5, y, width - 1, HEIGHT, shades[use.level], _told(use)))
    bottom = len(kinds) * (HEIGHT + GAP)
    drawn += block_numbers(columns, width, bottom)
    x = LEFT
    for level, shade in shades.items():
        drawn += [box(x, bottom + 24, 14, 10, shade), words(x + 20, bottom + 33, shortened(level), class_="small")]
        x += 36 + 6.5 * len(shortened(level))
    spoken = f"{len(goal.levels)} levels over {len(kinds)} kinds of matrices in {len(blocks)} blocks"
    return drawing(WIDTH, bottom + LEGEND, "The level of each matrix, by module and block", spoken, *drawn)


def _told(use: LevelUse) -> str:
    return f"{use.matrix}: {use.level}"


def _shade(number: int, levels: int) -> str:
    return f"h{round(number * (STEPS - 1) / max(levels - 1, 1))}"
