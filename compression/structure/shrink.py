"""A block without some of its units: the same modules of transformers, physically smaller.

Shapes: R = out_features of a half's output matrix, K = its columns kept.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compression.families import Architecture
from compression.families.structure import Half
from compression.structure.loader import put, reshape
from compression.structure.removal import columns_of
from compression.structure.units import BlockKept, counts, stand_ins, structure_of


@dataclass(frozen=True)
class Cut:
    """What becomes of one half.

    Args:
        kept: units that are left, rising; none: the half is gone, and only the residual stream goes on.
        weights_RK: of the output matrix, for their columns side by side; None: as they are.
        tuned: parameters of the half that were tuned afterwards, by their names in the shrunk block and as it has them.
    """

    kept: tuple[int, ...]
    weights_RK: Tensor | None = None
    tuned: Mapping[str, Tensor] = field(default_factory=dict)


Cuts = tuple[Cut, Cut]
"""Of attention and feed-forward."""


def kept_of(cuts: Cuts) -> BlockKept:
    return BlockKept(len(cuts[0].kept), len(cuts[1].kept))


def shrunk_block(block: nn.Module, number: int, architecture: Architecture, cuts: Cuts) -> nn.Module:
    """A block with what the cuts leave of it. What is not cut is shared with `block`, which stays as it is.

    Args: block: dense, with its weights. number: which one it is, from 0.
    """
    structure, kept = structure_of(architecture), kept_of(cuts)
    transposed = {matrix.name for matrix in architecture.matrices if matrix.is_transposed}
    shrunk = _twin(block)
    for half, cut in zip(structure, cuts, strict=True):
        if 0 < len(cut.kept) < half.units:
            _cut(shrunk, half, cut, transposed)
    reshape(shrunk, number, counts(structure, kept), dict(stand_ins(structure, kept)))
    for cut in cuts:
        for name, tensor in cut.tuned.items():
            old = shrunk.get_parameter(name)
            put(shrunk, name, tensor.to(old.device, old.dtype))
    return shrunk


def _cut(block: nn.Module, half: Half, cut: Cut, transposed: set[str]) -> None:
    rows: dict[str, list[Tensor]] = {}
    for feed in half.feeds:
        rows.setdefault(feed.module, []).append(feed.first + columns_of(cut.kept, feed.rows))
    for module, parts in rows.items():
        _select(block, f"{module}.weight", 1 if module in transposed else 0, torch.cat(parts))
        if block.get_submodule(module)._parameters.get("bias") is not None:
            _select(block, f"{module}.bias", 0, torch.cat(parts))
    axis, name = (0 if half.output in transposed else 1), f"{half.output}.weight"
    if cut.weights_RK is None:
        _select(block, name, axis, columns_of(cut.kept, half.width))
        return
    old = block.get_parameter(name)
    weights = cut.weights_RK.to(old.device, old.dtype)
    put(block, name, (weights if axis else weights.T).contiguous())


def _select(block: nn.Module, name: str, axis: int, lines: Tensor) -> None:
    old = block.get_parameter(name).detach()
    put(block, name, old.index_select(axis, lines.to(old.device)))


def _twin(module: nn.Module) -> nn.Module:
    """Other modules on the same tensors. `copy.deepcopy` would copy weights and configuration."""
    twin = copy.copy(module)
    twin.__dict__.update({name: value.copy() for name, value in vars(module).items() if isinstance(value, dict)})
    twin._modules = {name: None if child is None else _twin(child) for name, child in module._modules.items()}
    return twin
