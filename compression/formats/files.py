"""Format name -> the functions that write its files and read them back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from compression.formats import compressed_tensors, dense, gptq, spqr
from compression.formats.export import Export
from compression.models.checkpoint import Checkpoint
from compression.plan import Plan, PlannedLayer
from compression.protocol import OutputFormat


def _takes_all(_: Checkpoint, __: Plan) -> None:
    pass


@dataclass(frozen=True)
class FormatFiles:
    """One format's files.

    Args:
        write: writes the whole artifact folder but report and manifest.
        read_matrix: values (R, C) of one matrix of a written folder, by this project's own reading of the layout.
        check_source: raises UnsupportedModel, before any solving, for a source that the format cannot hold.
    """

    write: Callable[[Export], None]
    read_matrix: Callable[[Path, PlannedLayer], Tensor]
    check_source: Callable[[Checkpoint, Plan], None] = _takes_all


FILES: dict[OutputFormat, FormatFiles] = {
    "dense": FormatFiles(dense.write, dense.read_matrix),
    "compressed-tensors": FormatFiles(compressed_tensors.write, compressed_tensors.read_matrix),
    "gptq": FormatFiles(gptq.write, gptq.read_matrix),
    "spqr": FormatFiles(spqr.write, spqr.read_matrix, spqr.check_source),
}
