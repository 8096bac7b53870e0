"""The layers of a report by the kind of their module, over depth: rows of a heat strip, and of a table. Torch-free."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from compression.report import Coverage, LayerResult, Report

EVERY = "*"


@dataclass(frozen=True)
class Cell:
    """The matrices of one kind in one block: one, or as many as there are experts."""

    block: int
    layers: tuple[LayerResult, ...]
    unsolved: tuple[Coverage, ...] = ()  # those left alone

    @property
    def worst(self) -> LayerResult | None:
        """The one with the largest known error; None: no error of theirs is known."""
        known = [layer for layer in self.layers if layer.relative_error is not None]
        return max(known, key=lambda layer: layer.relative_error or 0.0, default=None)

    @property
    def error(self) -> float | None:
        """The largest relative error."""
        return self.worst.relative_error if self.worst else None

    @property
    def fell_back(self) -> bool:
        return any(layer.fallbacks for layer in self.layers)


@dataclass(frozen=True)
class ModuleKind:
    """All matrices of one kind, such as `self_attn.q_proj` or `mlp.experts.*.up_proj`, by block."""

    name: str
    cells: tuple[Cell, ...]

    @property
    def layers(self) -> tuple[LayerResult, ...]:
        return tuple(layer for cell in self.cells for layer in cell.layers)

    @property
    def errors(self) -> tuple[float, ...]:
        """Known ones of all matrices."""
        return tuple(layer.relative_error for layer in self.layers if layer.relative_error is not None)

    @property
    def zeros(self) -> float:
        """Share of their weights."""
        return self._mean([layer.sparsity for layer in self.layers])

    @property
    def bits_per_weight(self) -> float:
        return self._mean([layer.bits_per_weight for layer in self.layers])

    def _mean(self, values: list[float]) -> float:
        """Weighted by the matrices' sizes."""
        weights = [math.prod(layer.shape) for layer in self.layers]
        return sum(weight * value for weight, value in zip(weights, values, strict=True)) / max(sum(weights), 1)

    @property
    def worst(self) -> LayerResult | None:
        known = [cell.worst for cell in self.cells if cell.worst]
        return max(known, key=lambda layer: layer.relative_error or 0.0, default=None)


def by_module(report: Report) -> tuple[ModuleKind, ...]:
    """Kinds in the order of the model, each with the blocks that have it."""
    found: dict[str, dict[int, tuple[list[LayerResult], list[Coverage]]]] = {}
    for layer in report.layers:
        _at(found, layer.name, layer.block)[0].append(layer)
    for row in report.coverage:
        block = _block(row.name)
        if row.status == "skipped" and block is not None:
            _at(found, row.name, block)[1].append(row)
    prefix = _shared(found)
    return tuple(
        ModuleKind(
            name.removeprefix(prefix),
            tuple(Cell(block, tuple(solved), tuple(left)) for block, (solved, left) in sorted(blocks.items())),
        )
        for name, blocks in found.items()
    )


def _at(
    found: dict[str, dict[int, tuple[list[LayerResult], list[Coverage]]]], name: str, block: int
) -> tuple[list[LayerResult], list[Coverage]]:
    kind = ".".join(EVERY if part.isdecimal() else part for part in name.split("."))
    return found.setdefault(kind, {}).setdefault(block, ([], []))


def _block(name: str) -> int | None:
    """The first number in a module's name."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def _shared(kinds: Iterable[str]) -> str:
    """What all kinds begin with, up to the number of the block: `model.layers.*.`."""
    starts = {kind.partition(f".{EVERY}.")[0] for kind in kinds if f".{EVERY}." in kind}
    return f"{starts.pop()}.{EVERY}." if len(starts) == 1 else ""
