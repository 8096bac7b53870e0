"""How a search went: the best loss so far against the number of choices that were measured."""

import itertools

from markupsafe import Markup

from compression.goals.result import SearchResult
from compression.page.charts import AXIS, LEFT, RIGHT, WIDTH
from compression.page.svg import drawing, element, is_drawable, number, rule, ticks, words

HEIGHT, TOP = 130, 10


def search_chart(search: SearchResult) -> Markup | None:
    """A falling staircase, with the loss of the best level for all beside it; None where there was nothing to search."""
    curve = search.curve
    if len(curve) < 2 or not all(is_drawable(point.loss) for point in curve):
        return None
    last = max(search.evaluations, curve[-1].evaluation)
    known = [point.loss for point in curve] + ([search.uniform_loss] if search.uniform_loss is not None else [])
    marks = ticks(max(loss for loss in known if is_drawable(loss)), 4)
    across, up = (WIDTH - LEFT - RIGHT) / max(last - 1, 1), (HEIGHT - TOP) / marks[-1]

    def at(evaluation: int, loss: float) -> str:
        return f"{number(LEFT + (evaluation - 1) * across)},{number(HEIGHT - loss * up)}"

    drawn: list[Markup] = []
    for mark in marks:
        y = HEIGHT - mark * up
        drawn += [rule(LEFT, y, WIDTH - RIGHT, y, "grid"), words(LEFT - 8, y + 4, f"{mark:.3g}", "end", "small")]
    corners = [at(curve[0].evaluation, curve[0].loss)]
    for before, point in itertools.pairwise(curve):
        corners += [at(point.evaluation, before.loss), at(point.evaluation, point.loss)]
    corners.append(at(last, curve[-1].loss))
    drawn.append(element("polyline", points=" ".join(corners), class_="host"))
    drawn.append(words(WIDTH - RIGHT + 6, HEIGHT - curve[-1].loss * up + 4, f"{curve[-1].loss:.4g}"))
    if search.uniform_loss is not None and is_drawable(search.uniform_loss):
        y = HEIGHT - search.uniform_loss * up
        drawn += [rule(LEFT, y, WIDTH - RIGHT, y, "whisker"), words(WIDTH - RIGHT + 6, y + 4, "one for all", class_="small")]
    drawn += [words(LEFT, HEIGHT + 16, "1", "middle", "small"), words(WIDTH - RIGHT, HEIGHT + 16, last, "middle", "small")]
    spoken = f"from {curve[0].loss:.4g} to {curve[-1].loss:.4g} in {last} measurements"
    return drawing(WIDTH, HEIGHT + AXIS, "Best loss so far, by choices measured", spoken, *drawn)
