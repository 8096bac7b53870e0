"""The errors of all layers at a glance: a strip of cells for each kind of module over depth, and a line of the same."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from compression.by_module import Cell, ModuleKind
from compression.page.charts import LEFT, RIGHT, WIDTH, shortened
from compression.page.svg import box, drawing, element, is_drawable, number, words

LEGEND = 56  # its height, with the numbers of the blocks
RANGE = 1000  # from the lightest to the darkest shade; a few tiny errors would take the others' shades
STEPS = 8  # shades, classes h0 to h7 of report.css
HEIGHT, GAP, WIDEST = 18, 3, 26
MAX_COLUMNS = 128  # deeper models show several blocks in a column
SPARK_WIDTH, SPARK_HEIGHT = 120, 22


def heat_strip(kinds: Sequence[ModuleKind]) -> Markup | None:
    """A row for each kind, a column for each block, shaded by the logarithm of the error; None without any error."""
    known = [error for kind in kinds for error in kind.errors if is_drawable(error)]
    if not known:
        return None
    high = max(known)
    low = max(min(known), high / RANGE)
    columns = _columns(kinds)
    width = min(WIDEST, (WIDTH - LEFT - RIGHT) / (1 + max(columns.values())))
    drawn: list[Markup] = []
    for row, kind in enumerate(kinds):
        y = row * (HEIGHT + GAP)
        drawn.append(words(LEFT - 8, y + 13, shortened(kind.name), "end"))
        drawn += [_cell(kind, cells, LEFT + column * width, y, width, low, high) for column, cells in _in(columns, kind)]
        if kind.worst:
            x = LEFT + (1 + max(columns.values())) * width + 8
            drawn.append(words(x, y + 13, f"worst {kind.worst.relative_error:.3g}", class_="small"))
    bottom = len(kinds) * (HEIGHT + GAP)
    drawn += block_numbers(columns, width, bottom)
    drawn += _legend(low, high, bottom + 24)
    spoken = f"{len(kinds)} kinds of modules over {len(columns)} blocks, relative errors from {min(known):.3g} to {high:.3g}"
    return drawing(WIDTH, bottom + LEGEND, "Relative error of each layer, by module and block", spoken, *drawn)


def sparkline(kind: ModuleKind) -> Markup | None:
    """The error over depth, from zero; None with fewer than two."""
    errors = [cell.error for cell in kind.cells]
    known = [(index, error) for index, error in enumerate(errors) if error is not None and (is_drawable(error) or error == 0)]
    if len(known) < 2:
        return None
    across, up = (SPARK_WIDTH - 4) / max(len(errors) - 1, 1), (SPARK_HEIGHT - 4) / (max(error for _, error in known) or 1.0)
    points = " ".join(f"{number(2 + index * across)},{number(SPARK_HEIGHT - 2 - error * up)}" for index, error in known)
    spoken = f"from {known[0][1]:.3g} in the first to {known[-1][1]:.3g} in the last block"
    title = f"{kind.name}: error by depth"
    return drawing(SPARK_WIDTH, SPARK_HEIGHT, title, spoken, element("polyline", points=points, class_="host"))


def _columns(kinds: Sequence[ModuleKind]) -> dict[int, int]:
    """Block -> column."""
    blocks = sorted({cell.block for kind in kinds for cell in kind.cells})
    step = -(-len(blocks) // MAX_COLUMNS)
    return {block: index // step for index, block in enumerate(blocks)}


def _in(columns: dict[int, int], kind: ModuleKind) -> list[tuple[int, list[Cell]]]:
    """The cells of each column."""
    found: dict[int, list[Cell]] = {}
    for cell in kind.cells:
        found.setdefault(columns[cell.block], []).append(cell)
    return list(found.items())


def _cell(kind: ModuleKind, cells: list[Cell], x: float, y: float, width: float, low: float, high: float) -> Markup:
    worst = max(cells, key=lambda cell: cell.error or 0.0)
    shade = "none" if worst.error is None else f"h{_shade(worst.error, low, high)}"
    drawn = box(x + 0.5, y, width - 1, HEIGHT, shade, _told(kind, worst))
    sign = "×" if any(cell.fell_back for cell in cells) else "–" if not worst.layers else ""
    if not sign:
        return drawn
    return element("g", drawn, words(x + width / 2, y + 13, sign, "middle", f"sign on-{shade}"))


def _told(kind: ModuleKind, cell: Cell) -> str:
    where = f"{kind.name}, block {cell.block}"
    if not cell.layers:
        return f"{where}: left alone{f' ({cell.unsolved[0].reason})' if cell.unsolved else ''}"
    layer = cell.worst or cell.layers[0]
    parts = ["error unknown" if layer.relative_error is None else f"relative error {layer.relative_error:.3g}"]
    parts.append(f"{layer.sparsity:.1%} zero")
    if layer.bits is not None:
        parts.append(f"{layer.bits} bits" if isinstance(layer.bits, int) else layer.bits)
    parts += [layer.method, *layer.fallbacks[:3]]
    many = f" (worst of {len(cell.layers)}: {layer.name})" if len(cell.layers) > 1 else ""
    return f"{where}{many}: {', '.join(parts)}"


def _shade(error: float, low: float, high: float) -> int:
    if math.isnan(error) or error > high:
        return STEPS - 1
    if error <= low or high <= low:
        return 0
    return min(STEPS - 1, int(STEPS * math.log(error / low) / math.log(high / low)))


def block_numbers(columns: dict[int, int], width: float, bottom: float) -> list[Markup]:
    """Numbers under every fifth or tenth column, far enough from each other."""
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100) if step * width >= 20 or step == 100)
    firsts = {column: block for block, column in reversed(columns.items())}
    marked = [(column, block) for column, block in sorted(firsts.items()) if column % every == 0]
    drawn = [words(LEFT + (column + 0.5) * width, bottom + 12, block, "middle", "small") for column, block in marked]
    return [words(LEFT - 8, bottom + 12, "block", "end", "small"), *drawn]


def _legend(low: float, high: float, y: float) -> list[Markup]:
    shades = [box(LEFT + 60 + step * 18, y, 18, 10, f"h{step}") for step in range(STEPS)]
    end = LEFT + 60 + STEPS * 18
    return [
        words(LEFT + 52, y + 9, f"≤ {low:.3g}", "end", "small"),
        *shades,
        words(end + 8, y + 9, f"{high:.3g} relative error, logarithmic", class_="small"),
        words(LEFT, y + 26, "×: a fallback was needed; –: left alone; empty: error unknown", class_="small"),
    ]
