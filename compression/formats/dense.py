"""The `dense` format: the source's own layout with compressed values in it. Loads wherever the source loaded.

Names, dtypes, shapes and config stay; a pruned weight is a real zero, a quantised one is stored de-quantised.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from compression.formats.export import Export, write_shards
from compression.models.checkpoint import Checkpoint
from compression.models.storage import place
from compression.plan import PlannedLayer
from compression.weights import Weights


def write(export: Export) -> None:
    """Write the whole artifact folder but report and manifest."""
    write_shards(export, _pack, config={})


def read_matrix(folder: Path, layer: PlannedLayer) -> Tensor:
    """The values (R, C) of one matrix of a written artifact."""
    written = Checkpoint(folder)
    found = place(written, layer.name, layer.matrix)
    return found.view(written.read([found.tensor]))


def _pack(layer: PlannedLayer, weights: Weights, storage_dtype: torch.dtype) -> Mapping[str, Tensor]:
    """In the order that the source stores it in."""
    dense_RC = weights.to_dense().to(storage_dtype)
    return {"weight": (dense_RC.T if layer.matrix.is_transposed else dense_RC).contiguous()}
