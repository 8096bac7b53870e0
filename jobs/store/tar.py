"""Stored files as one tar archive, made while it is sent: its size is known before, and any part of it can be had.

The headers are small and made at once; the files are read from the store when their turn comes. Nothing in an archive depends
on when or where it is made, so a download that broke off is continued with the same bytes.
"""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from jobs.store.artifacts import ArtifactStore
from jobs.tables import Artifact

_FILE_MODE = 0o644


@dataclass(frozen=True)
class _Stored:
    """A part of the archive that lies in the store."""

    sha256: str
    size_bytes: int


class TarArchive:
    """Args: folder: that holds all files in the archive. made_at: the time that they get there."""

    def __init__(self, files: Sequence[Artifact], folder: str, made_at: datetime) -> None:
        self._parts: list[bytes | _Stored] = []
        for file in files:
            self._parts.append(_header(f"{folder}/{file.name}", file.size_bytes, made_at))
            self._parts.append(_Stored(file.sha256, file.size_bytes))
            self._parts.append(bytes(-file.size_bytes % tarfile.BLOCKSIZE))
        end = 2 * tarfile.BLOCKSIZE
        self._parts.append(bytes(end + -(sum(map(_size, self._parts)) + end) % tarfile.RECORDSIZE))
        self._ends = list(accumulate(map(_size, self._parts)))

    @property
    def size_bytes(self) -> int:
        return self._ends[-1]

    @property
    def digest(self) -> str:
        """Tells archives of different bytes apart, without reading the files: SHA-256 of the headers and of their digests."""
        parts = (part.sha256.encode() if isinstance(part, _Stored) else part for part in self._parts)
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def stream(self, store: ArtifactStore, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`. Raises: ArtifactCorrupt: in place of the first damaged piece."""
        end = self.size_bytes if end is None else end
        for part, part_end in zip(self._parts, self._ends, strict=True):
            offset = part_end - _size(part)
            first, last = max(start - offset, 0), min(end, part_end) - offset
            if first < last:
                yield from [part[first:last]] if isinstance(part, bytes) else store.stream(part.sha256, first, last)


def _size(part: bytes | _Stored) -> int:
    return len(part) if isinstance(part, bytes) else part.size_bytes


def _header(name: str, size_bytes: int, made_at: datetime) -> bytes:
    """In the plain format of 1988 where that can say it; long names and files beyond 8 GiB get an extended header."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size_bytes, _FILE_MODE, int(made_at.timestamp())
    return member.tobuf(format=tarfile.PAX_FORMAT)
