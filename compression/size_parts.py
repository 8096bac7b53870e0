"""Where the bytes of weights are, before and after: read from the headers of both."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from compression.formats.block_names import names_by_block
from compression.formats.rules_gguf import FILE
from compression.models.checkpoint import Checkpoint
from compression.models.headers import read_folder
from compression.models.storage import place
from compression.models.stored_names import spellings
from compression.plan import Plan
from compression.report import SOLVED_PART, SizePart

IN_BLOCKS, OUTSIDE, HEADERS = "rest of the blocks", "embedding, head, final norm", "file headers"
GGUF_BLOCK = "blk."


def size_parts(checkpoint: Checkpoint, plan: Plan, folder: Path, artifact_bytes: int) -> tuple[SizePart, ...]:
    """Bytes of the solved matrices, of what else is in blocks, of the rest, and of the artifact's headers.

    Args: folder: of the artifact, written. artifact_bytes: of its weight files.
    """
    source = {name: info.size_bytes for name, info in checkpoint.tensors.items()}
    solved = {place(checkpoint, layer.name, layer.matrix).tensor for layer in plan.targeted}
    before = _by_part(source, solved, set(_in_blocks(source, checkpoint)))
    if (folder / FILE).is_file():
        from compression.formats import gguf  # needs a package that a machine which writes no such file may lack
        from compression.formats.gguf_file import open_gguf

        written = {name: tensor.size_bytes for name, tensor in open_gguf(folder / FILE).tensors.items()}
        theirs = {gguf.name_in_file(checkpoint.config, name) for name in solved}
        after = _by_part(written, theirs, {name for name in written if name.startswith(GGUF_BLOCK)})
    else:
        written = {name: info.size_bytes for name, info in read_folder(folder).items()}
        packed = solved | set(_packed(written, checkpoint, plan))
        after = _by_part(written, packed, set(_in_blocks(written, checkpoint)))
    after[HEADERS] = artifact_bytes - sum(after.values())
    return tuple(
        SizePart(name=name, source_bytes=before.get(name, 0), artifact_bytes=size_bytes) for name, size_bytes in after.items()
    )


def _by_part(sizes: Mapping[str, int], solved: set[str], in_blocks: set[str]) -> dict[str, int]:
    found = dict.fromkeys((SOLVED_PART, IN_BLOCKS, OUTSIDE), 0)
    for name, size_bytes in sizes.items():
        found[SOLVED_PART if name in solved else IN_BLOCKS if name in in_blocks else OUTSIDE] += size_bytes
    return found


def _in_blocks(names: Iterable[str], checkpoint: Checkpoint) -> Iterator[str]:
    for block in names_by_block(names, checkpoint.architecture)[1:]:
        yield from block


def _packed(names: Iterable[str], checkpoint: Checkpoint, plan: Plan) -> Iterator[str]:
    """Tensors that stand in a solved matrix's place: all that begin with its name but its bias."""
    modules = {spelled for layer in plan.targeted for spelled in spellings(checkpoint.architecture, layer.name)}
    for name in names:
        parts = name.split(".")
        if parts[-1] != "bias" and any(".".join(parts[:end]) in modules for end in range(1, len(parts))):
            yield name
