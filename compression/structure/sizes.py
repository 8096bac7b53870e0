"""Bytes of a model before and after it was shrunk, by part."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from compression.formats.block_names import names_by_block
from compression.models.checkpoint import Checkpoint
from compression.models.headers import TensorInfo, read_folder
from compression.report import SizePart, Sizes
from compression.structure.loading import dense_shapes
from compression.structure.units import BlockKept, kept_shapes, parameters


def shrunk_sizes(source: Checkpoint, kept: Sequence[BlockKept], folder: Path) -> tuple[Sizes, int]:
    """The sizes, and how many parameters are left. Args: folder: with the written weights."""
    architecture = source.architecture
    dense = dense_shapes(source)
    before = sum(map(parameters, dense))
    after = sum(parameters(kept_shapes(shapes, architecture, left)) for shapes, left in zip(dense, kept, strict=True))
    written = read_folder(folder)
    source_bytes = source.size_bytes
    artifact_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    dense_bytes, left_bytes = _blocks(source.tensors, source), _blocks(written, source)
    parts = [
        SizePart(name="blocks", source_bytes=dense_bytes, artifact_bytes=left_bytes),
        SizePart(
            name="embedding, head, final norm",
            source_bytes=_all(source.tensors.values()) - dense_bytes,
            artifact_bytes=_all(written.values()) - left_bytes,
        ),
    ]
    parts.append(
        SizePart(
            name="file headers",
            source_bytes=source_bytes - sum(part.source_bytes for part in parts),
            artifact_bytes=artifact_bytes - sum(part.artifact_bytes for part in parts),
        )
    )
    width = 8 * dense_bytes / before
    note = (
        f"{before - after:,} of {before:,} weights inside blocks were cut out; the artifact takes "
        f"{artifact_bytes / source_bytes:.1%} of its source's bytes."
    )
    sizes = Sizes(
        source_bytes=source_bytes,
        artifact_bytes=artifact_bytes,
        targeted_parameters=before,
        zero_parameters=0,
        bits_per_targeted_weight=width * after / before,
        parts=tuple(parts),
        note=note,
    )
    return sizes, source.parameters - before + after


def _blocks(tensors: Mapping[str, TensorInfo], source: Checkpoint) -> int:
    """Bytes of the tensors that lie in blocks."""
    inside = [name for names in names_by_block(tensors, source.architecture)[1:] for name in names]
    return _all(tensors[name] for name in inside)


def _all(infos: Iterable[TensorInfo]) -> int:
    return sum(info.size_bytes for info in infos)
