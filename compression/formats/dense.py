"""The `dense` format: the source's own layout with compressed values in it. Loads wherever the source loaded.

Names, dtypes, shapes and config stay; a pruned weight is a real zero, a quantised one is stored de-quantised.
"""

from pathlib import Path

from torch import Tensor

from compression.formats.export import Export, stored_dense, write_shards
from compression.models.checkpoint import opened
from compression.models.storage import place
from compression.plan import PlannedLayer


def write(export: Export) -> None:
    """Write the whole artifact folder but report and manifest."""
    write_shards(export, stored_dense, config={})


def read_matrix(folder: Path, layer: PlannedLayer) -> Tensor:
    """The values (R, C) of one matrix of a written artifact."""
    written = opened(folder)
    return place(written, layer.name, layer.matrix).read(written)
