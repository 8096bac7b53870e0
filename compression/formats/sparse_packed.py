"""The `sparse-packed` format: bit masks, kept values and packed codes in safetensors, read by `compression.formats.load`.

Whatever lies outside the solved matrices stays as in the source; embedding and head may be rounded to 8 bits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compression.block import scale_dtype
from compression.errors import UnsupportedModel
from compression.formats.export import Export, write_shards
from compression.formats.shards import Shards
from compression.formats.sparse_parts import pack_parts, unpack_parts
from compression.models.ends import round_end, stored_ends
from compression.plan import PlannedLayer
from compression.weights import Weights

QUANT_METHOD = "scalpel-sparse-packed"
LAYOUT_VERSION = 1


def write(export: Export) -> None:
    """Write the whole artifact folder but report and manifest."""
    ends = stored_ends(export.checkpoint) if export.output.embeddings == "int8" else ()

    def pack_rest(name: str, tensor: Tensor) -> Mapping[str, Tensor]:
        if name not in ends:
            return {name: tensor}
        packed = pack_parts(round_end(tensor, scale_dtype(tensor.dtype)), tensor.dtype)
        return {f"{name.removesuffix('weight')}{last}": part for last, part in packed.items()}

    # other loaders must not take the folder for a plain checkpoint whose matrices are missing
    marker: dict[str, Any] = {"quantization_config": {"quant_method": QUANT_METHOD, "version": LAYOUT_VERSION}}
    write_shards(export, _pack, config=marker, pack_rest=pack_rest, splits_experts=True)


def read_matrix(folder: Path, layer: PlannedLayer) -> Tensor:
    """The values (R, C) of one matrix of a written artifact.

    Raises: UnsupportedModel: it is not there, or its parts disagree.
    """
    return read_packed(Shards.of(folder), f"{layer.name}.weight", layer.matrix.shape, is_transposed=layer.matrix.is_transposed)


def read_tensor(folder: Path, name: str, shape: tuple[int, ...]) -> Tensor | None:
    """One parameter by its name in the model: as it is stored, or unpacked where it was rounded; None: not stored."""
    shards = Shards.of(folder)
    if shards.stored_name(name) is not None or len(shape) != 2 or not shards.below(name):
        return shards.read(name)
    return read_packed(shards, name, (shape[0], shape[1]), is_transposed=False)


def read_packed(shards: Shards, name: str, shape: tuple[int, int], *, is_transposed: bool) -> Tensor:
    """Values (R, C) of a matrix, packed or plain."""
    plain = shards.read(name)
    if plain is not None:
        return plain.T if is_transposed else plain
    parts = shards.below(name)
    kinds = {last.partition(".")[0] for last in parts}
    if not kinds:
        raise UnsupportedModel(f"the artifact has no tensor {name}, packed or plain")
    if len(kinds) > 1:
        raise UnsupportedModel(f"{name} is stored as several kinds of weights: {', '.join(sorted(kinds))}")
    (kind,) = kinds
    tensors = {last.partition(".")[2]: tensor for last, tensor in shards.read_below(name).items()}
    return unpack_parts(kind, tensors, shape, f"{shards.file_of(name)}: {name}")


def _pack(layer: PlannedLayer, weights: Weights, storage_dtype: torch.dtype) -> Mapping[str, Tensor]:
    packed = pack_parts(weights, storage_dtype)
    if layer.matrix.is_transposed and "weight" in packed:
        return {"weight": packed["weight"].T.contiguous()}
    return packed
