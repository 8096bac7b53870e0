"""Files that lie in the artifact store as consecutive parts, read as one."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jobs.errors import ArtifactCorrupt
from jobs.store.artifacts import ArtifactStore
from jobs.uploads.tables import ModelFile, ModelPart

OnPiece = Callable[[], None]


def stream_parts(store: ArtifactStore, parts: Sequence[ModelPart]) -> Iterator[bytes]:
    """Raises: ArtifactCorrupt."""
    for part in parts:
        yield from store.stream(part.sha256)


def digest(store: ArtifactStore, parts: Sequence[ModelPart], on_piece: OnPiece) -> str:
    """SHA-256 of the whole. Args: on_piece: called between pieces; may raise to stop. Raises: ArtifactCorrupt."""
    whole = hashlib.sha256()
    for piece in stream_parts(store, parts):
        on_piece()
        whole.update(piece)
    return whole.hexdigest()


def beginning(store: ArtifactStore, parts: Sequence[ModelPart], length: int) -> bytes:
    """The first `length` bytes; fewer where the file ends. Raises: ArtifactCorrupt."""
    found = bytearray()
    for part in parts:
        if len(found) == length:
            break
        for piece in store.stream(part.sha256, 0, length - len(found)):
            found += piece
    return bytes(found)


def write_whole(store: ArtifactStore, file: ModelFile, parts: Sequence[ModelPart], path: Path, on_piece: OnPiece) -> None:
    """Write the file to a path that nobody else uses, verified. Raises: ArtifactCorrupt."""
    whole = hashlib.sha256()
    with path.open("wb") as target:
        for piece in stream_parts(store, parts):
            on_piece()
            whole.update(piece)
            target.write(piece)
    if whole.hexdigest() != file.promised_sha256:
        raise ArtifactCorrupt(f"the stored parts of {file.path} are not the file that was uploaded")
