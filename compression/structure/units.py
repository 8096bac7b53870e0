"""What a model can lose, checked against what its family declares, and in which steps. Torch-free.

The words: a block has two *halves*, attention and feed-forward; a half has *units*, key-value groups or columns; a *level* is
a number of units kept, all of them first and none last.

Source: ZipLM, arXiv:2302.04089, section 3.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compression.errors import InvalidOptions, UnsupportedModel
from compression.families import Architecture, Matrix
from compression.families.structure import Half, StandIn, Structure

SHRINK = 0.9  # from one width of a feed-forward to the next
LEAST_SHARE = 0.01  # of the width, below which a feed-forward goes whole
MULTIPLE_OF = 32  # columns; what matrix kernels on common hardware are made for

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each parameter of a block, by its name inside it."""


@dataclass(frozen=True)
class BlockKept:
    """How many units of a block's halves are kept; 0 means that the half is gone."""

    attention: int
    ffn: int

    def of(self, half: Half) -> int:
        return self.attention if half.name == "attention" else self.ffn


def structure_of(architecture: Architecture) -> Structure:
    """The two halves of every block.

    Raises: UnsupportedModel: the family declares none, or they do not fit its matrices; with the reason.
    """
    if architecture.structure is None:
        raise UnsupportedModel(
            f"{architecture.model_type}: nothing is known of what can be cut out of its blocks; heads and columns "
            f"can be removed from Llama-like models with plain attention, OPT, GPT-2, BERT and RoBERTa"
        )
    if architecture.exceptions:
        raise UnsupportedModel(f"{architecture.model_type}: its blocks are not all alike, and one table of times is for all")
    matrices = {matrix.name: matrix for matrix in architecture.matrices}
    for half in architecture.structure:
        _check_tiling(half, matrices)
    return architecture.structure


def levels_of(half: Half, multiple_of: int = MULTIPLE_OF) -> tuple[int, ...]:
    """Numbers of units, falling, from all to none: every number of heads, and widths that shrink by a tenth each time.

    Args: multiple_of: what widths are rounded to; numbers that fall together by it are one level.
    Raises: InvalidOptions: it is not positive.
    """
    if multiple_of < 1:
        raise InvalidOptions("multiple_of", f"{multiple_of} is no number of columns", ">= 1")
    if half.name == "attention":
        return tuple(range(half.units, -1, -1))
    found = {half.units, 0}
    share = SHRINK
    while share > LEAST_SHARE:
        width = round(share * half.units / multiple_of) * multiple_of
        found |= {width} if width < half.units else set()
        share *= SHRINK
    return tuple(sorted(found, reverse=True))


def kept_shapes(shapes: Shapes, architecture: Architecture, kept: BlockKept) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters that a block has left. Args: shapes: of the dense block."""
    found = dict(shapes)
    transposed = {matrix.name for matrix in architecture.matrices if matrix.is_transposed}
    for half in structure_of(architecture):
        units = kept.of(half)
        if units == half.units:
            continue
        if units == 0:
            gone = tuple(f"{module}." for module, _ in half.stand_ins)
            found = {name: shape for name, shape in found.items() if not name.startswith(gone)}
            continue
        rows: dict[str, int] = {}
        for feed in half.feeds:
            rows[feed.module] = rows.get(feed.module, 0) + units * feed.rows
        for module, count in rows.items():
            found[f"{module}.weight"] = _resized(found[f"{module}.weight"], 1 if module in transposed else 0, count)
            if f"{module}.bias" in found:
                found[f"{module}.bias"] = (count,)
        weight = f"{half.output}.weight"
        found[weight] = _resized(found[weight], 0 if half.output in transposed else 1, units * half.width)
    return found


def parameters(shapes: Shapes) -> int:
    """How many numbers these are."""
    return sum(map(math.prod, shapes.values()))


def database_bytes(architecture: Architecture) -> int:
    """What a database of structures takes on disk: a Hessian in float32 for each half of each block."""
    return architecture.blocks * sum(4 * (half.units * half.width) ** 2 for half in structure_of(architecture))


def stand_ins(structure: Structure, kept: BlockKept) -> dict[str, StandIn]:
    """Module -> what takes its place in a block of which this is kept."""
    return {module: kind for half in structure if kept.of(half) == 0 for module, kind in half.stand_ins}


def counts(structure: Structure, kept: BlockKept) -> dict[str, int]:
    """`module.attribute` -> the whole number that it must hold in such a block."""
    return {
        f"{module}.{attribute}": kept.of(half) * per_unit
        for half in structure
        if 0 < kept.of(half) < half.units
        for module, attribute, per_unit in half.counts
    }


def plain_config(structure: Structure, blocks: Sequence[BlockKept]) -> dict[str, int] | None:
    """Entries of config.json that say these shapes; None where the family's plain config cannot."""
    if len(set(blocks)) != 1:
        return None
    found: dict[str, int] = {}
    for half in structure:
        units = blocks[0].of(half)
        if units == half.units:
            continue
        if units == 0 or not half.config:
            return None
        found |= {entry: units * per_unit for entry, per_unit in half.config} | dict(half.constants)
    return found


def _check_tiling(half: Half, matrices: Mapping[str, Matrix]) -> None:
    """The units must be all of the columns that they are cut from, and all of the rows that die with them."""
    rows: dict[str, int] = {}
    for feed in half.feeds:
        if feed.first != rows.get(feed.module, 0):
            raise UnsupportedModel(f"config.json: its {half.units} units do not lie side by side in {feed.module}")
        rows[feed.module] = feed.first + half.units * feed.rows
    declared = {name: (matrices[name].shape[0], count) for name, count in rows.items()}
    declared[half.output] = matrices[half.output].shape[1], half.units * half.width
    for name, (size, covered) in declared.items():
        if size != covered:
            raise UnsupportedModel(f"config.json: {half.units} units of the {half.name} make up {covered} of {size} in {name}")


def _resized(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])
