"""The `dense` format: the source's own layout with compressed values in it. Loads wherever the source loaded.

Names, dtypes, shapes and config stay; a pruned weight is a real zero, a quantised one is stored de-quantised.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from compression.block import stored_form
from compression.formats.export import Export, write_shards
from compression.models.checkpoint import Checkpoint
from compression.plan import PlannedLayer
from compression.weights import Weights


def write(export: Export) -> None:
    """Write the whole artifact folder but report and manifest."""
    write_shards(export, _pack, config={})


def read_matrix(folder: Path, layer: PlannedLayer) -> Tensor:
    """The values (R, C) of one matrix of a written artifact."""
    written = Checkpoint(folder)
    stored = written.stored_name(f"{layer.name}.weight")
    assert stored is not None
    weight = written.read([stored])[stored]
    return weight.T if layer.matrix.is_transposed else weight


def _pack(layer: PlannedLayer, weights: Weights, storage_dtype: torch.dtype) -> Mapping[str, Tensor]:
    return {"weight": stored_form(weights, layer, storage_dtype)}
