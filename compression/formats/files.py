"""Format name -> the functions that write its files and read them back."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from compression.formats import compressed_tensors, dense, gptq, sparse_packed, spqr
from compression.formats.export import Export
from compression.formats.shards import read_plain
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
        read_matrix: values (R, C) of one matrix of a written folder, packed or left plain, by this project's own reading
            of the layout.
        read_tensor: a parameter that is no solved matrix, by its name in the model and its shape there; None: not stored.
        check_source: raises UnsupportedModel, before any solving, for a source that the format cannot hold.
        may_share: whether a source will do that holds the matrices of all experts in one tensor.
    """

    write: Callable[[Export], None]
    read_matrix: Callable[[Path, PlannedLayer], Tensor]
    read_tensor: Callable[[Path, str, tuple[int, ...]], Tensor | None] = read_plain
    check_source: Callable[[Checkpoint, Plan], None] = _takes_all
    may_share: bool = False


def _of_gguf(name: str) -> Callable[..., Any]:
    """A function of `gguf.py`, which is loaded when it is called: a bare machine has no gguf."""
    return lambda *args: getattr(import_module("compression.formats.gguf"), name)(*args)


FILES: dict[OutputFormat, FormatFiles] = {
    "dense": FormatFiles(dense.write, dense.read_matrix, may_share=True),
    "compressed-tensors": FormatFiles(compressed_tensors.write, compressed_tensors.read_matrix),
    "gptq": FormatFiles(gptq.write, gptq.read_matrix),
    "spqr": FormatFiles(spqr.write, spqr.read_matrix, check_source=spqr.check_source),
    "gguf": FormatFiles(_of_gguf("write"), _of_gguf("read_matrix"), _of_gguf("read_tensor"), _of_gguf("check_source")),
    "sparse-packed": FormatFiles(sparse_packed.write, sparse_packed.read_matrix, sparse_packed.read_tensor, may_share=True),
}
