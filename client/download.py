"""Bringing a file here: to a temporary name beside its place, verified, then renamed."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from client.errors import ChecksumMismatch, UnsafeName
from client.models import Artifact


def inside(folder: Path, name: str) -> Path:
    """The path of `name` below `folder`.

    Raises: UnsafeName: the name is absolute, empty or climbs out.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise UnsafeName(name)
    return folder.joinpath(*parts)


def fetch_file(chunks: Iterable[bytes], artifact: Artifact, target: Path, on_bytes: Callable[[int], None]) -> None:
    """Write `chunks` to `target` in one step, if they are the bytes that `artifact` promises.

    Raises: ChecksumMismatch: they are not; the temporary file is gone.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        digest = hashlib.sha256()
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
                on_bytes(len(chunk))
        if digest.hexdigest() != artifact.sha256:
            raise ChecksumMismatch(artifact.name, artifact.sha256, digest.hexdigest())
        Path(temporary).chmod(0o644)  # mkstemp makes private files; a checkpoint is an ordinary one
        Path(temporary).replace(target)
    finally:
        Path(temporary).unlink(missing_ok=True)
