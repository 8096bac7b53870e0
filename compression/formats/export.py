"""What a format's writer gets, and the shards that all safetensors formats share.

One shard for what lies outside the blocks, then one for each block, so that no more than a block is in memory.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from compression.formats import block_names
from compression.models.checkpoint import Checkpoint
from compression.models.headers import INDEX_FILE
from compression.models.storage import Place, place
from compression.plan import Plan, PlannedLayer
from compression.protocol import Output
from compression.weights import Weights

COPIED = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class Export:
    """Everything that is written.

    Args:
        solved: block index -> solved weights by module name; read from disk block by block.
        folder: exists and is empty.
    """

    checkpoint: Checkpoint
    plan: Plan
    solved: Callable[[int], Mapping[str, Weights]]
    output: Output
    folder: Path

    def storage_dtype(self, layer: PlannedLayer) -> torch.dtype:
        """The dtype that the source stores this matrix in."""
        return self.checkpoint.dtype_of(self.place(layer).tensor)

    def place(self, layer: PlannedLayer) -> Place:
        """Where this matrix lies in the source."""
        return place(self.checkpoint, layer.name, layer.matrix)


def stored_dense(layer: PlannedLayer, weights: Weights, storage_dtype: torch.dtype) -> Mapping[str, Tensor]:
    """A matrix as the source stores it: a `Pack` for formats, or matrices, without a layout of their own."""
    dense_RC = weights.to_dense().to(storage_dtype)
    return {"weight": (dense_RC.T if layer.matrix.is_transposed else dense_RC).contiguous()}


Pack = Callable[[PlannedLayer, Weights, torch.dtype], Mapping[str, Tensor]]
"""A solved matrix -> its tensors by their last name, such as {"weight": ...}; given the dtype that the source stores."""


PackRest = Callable[[str, Tensor], Mapping[str, Tensor]]
"""A tensor outside the blocks, by its stored name -> the tensors that stand for it, by their full names."""


def _as_it_is(name: str, tensor: Tensor) -> Mapping[str, Tensor]:
    return {name: tensor}


def write_shards(
    export: Export,
    pack: Pack,
    *,
    config: Mapping[str, Any],
    pack_rest: PackRest = _as_it_is,
    splits_experts: bool = False,
) -> None:
    """Write every tensor of the source, solved matrices packed, then index, config.json and tokenizer.

    Args:
        config: entries to add to the source's config.json.
        pack_rest: for what lies outside the blocks, such as the embedding.
        splits_experts: where the source holds all experts in one tensor, give each matrix one of its own.
    """
    write_tensors(export, pack, pack_rest=pack_rest, splits_experts=splits_experts)
    write_config(export, config)


def write_tensors(
    export: Export,
    pack: Pack,
    renames: Mapping[str, str] = MappingProxyType({}),
    *,
    pack_rest: PackRest = _as_it_is,
    splits_experts: bool = False,
) -> None:
    """Write every tensor of the source, solved matrices packed, and their index.

    Args: renames: the source's name of a tensor -> the artifact's, where it differs. Others: as of `write_shards`.
    """
    by_block = names_by_block(export.checkpoint)
    weight_map: dict[str, str] = {}
    total_bytes = 0
    for number, names in enumerate(by_block, start=1):
        shard = f"model-{number:05d}-of-{len(by_block):05d}.safetensors"
        tensors = export.checkpoint.read(names)
        if number > 1:
            _replace(tensors, export, number - 2, pack, splits_experts=splits_experts)
        else:
            tensors = {last: part for name, tensor in tensors.items() for last, part in pack_rest(name, tensor).items()}
        tensors = {_renamed(name, renames): tensor for name, tensor in tensors.items()}
        save_file(tensors, export.folder / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, shard)
        total_bytes += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(export.folder / INDEX_FILE, index)


def write_config(export: Export, config: Mapping[str, Any]) -> None:
    """Write the source's config.json with these entries added, and what else a loader needs beside the tensors."""
    source = {name: value for name, value in export.checkpoint.config.items() if name != "auto_map"}  # no code is written
    write_json(export.folder / "config.json", {**source, **config})
    copy_tokenizer(export)


def copy_tokenizer(export: Export) -> None:
    """Copy what an artifact needs beside weights and config: tokenizer and generation settings."""
    for name in COPIED:
        if (export.checkpoint.folder / name).is_file():
            shutil.copyfile(export.checkpoint.folder / name, export.folder / name)


def _replace(tensors: dict[str, Tensor], export: Export, block: int, pack: Pack, *, splits_experts: bool) -> None:
    """Put the packed tensors of a block's solved matrices in place of the source's."""
    solved = export.solved(block)
    split = set()
    for layer in export.plan.block(block):
        found = export.place(layer)
        if found.is_fused and splits_experts:
            split.add(found.tensor)
            found = found.split(tensors, layer.name)
        if layer.name in solved:
            found.replace(tensors, pack(layer, solved[layer.name], export.storage_dtype(layer)))
    for name in split:
        del tensors[name]


def _renamed(name: str, renames: Mapping[str, str]) -> str:
    """A packed tensor goes where the weight went that it replaces."""
    module, _, last = name.rpartition(".")
    weight = renames.get(f"{module}.weight")
    return renames.get(name, name) if weight is None else f"{weight.removesuffix('weight')}{last}"


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")


def names_by_block(checkpoint: Checkpoint) -> list[list[str]]:
    """Stored tensor names: first those outside the blocks, then block by block."""
    return block_names.names_by_block(checkpoint.tensors, checkpoint.architecture)
