"""Bringing a file here: to a temporary file beside its place, continued where it was cut off, verified, then renamed."""

import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import httpx

from client.errors import ApiError, ChecksumMismatch, ServiceUnreachable, UnsafeName
from client.event_stream import RECONNECT_DELAYS_S
from client.models import Artifact
from client.sending import check, is_passing, jittered, words
from client.steps import Close, Flow, Open, Opened, Read, Send, Sleep, Work

PARALLEL = 4  # files at once
PIECE_BYTES = 1024 * 1024
GOES_ON = "what is here already is kept, and the same download goes on from there"

OnBytes = Callable[[int], None]


def ignore_bytes(_: int) -> None:
    """The callback of a caller who does not follow a download."""


def inside(folder: Path, name: str) -> Path:
    """The path of `name` below `folder`.

    Raises: UnsafeName: the name is absolute, empty or climbs out.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise UnsafeName(name)
    return folder.joinpath(*parts)


def fetch(url: str, request: Send, artifact: Artifact, target: Path, on_bytes: OnBytes) -> Flow[None]:
    """Have `target` be the file that `artifact` promises; a file that is that already is left as it is.

    Raises: ChecksumMismatch: other bytes came; they are gone, and what was at `target` is untouched.
        ServiceUnreachable: several drops in a row without a byte in between. ApiError.
    """
    if (yield Work(lambda: _is_here(target, artifact))):
        on_bytes(artifact.size_bytes)
        return
    part = _Part(artifact, target)
    with closing(part):  # before it is opened: whoever gives the flow up meanwhile never sees what the step brings
        yield Work(part.open)
        on_bytes(part.size)
        drops = 0
        while part.size < artifact.size_bytes:
            before, reason = part.size, "the file ended early"
            try:
                yield from _go_on(request, part, on_bytes)
            except httpx.TransportError as error:
                reason = words(error)
            except ApiError as error:
                if not is_passing(error):
                    raise
                reason = str(error)
            drops = 0 if part.size > before else drops + 1
            if drops > len(RECONNECT_DELAYS_S):
                raise ServiceUnreachable(url, f"{reason}; {GOES_ON}")
            if part.size < artifact.size_bytes:
                yield Sleep(jittered(RECONNECT_DELAYS_S[max(drops - 1, 0)]))
        part.finish()


def _go_on(request: Send, part: "_Part", on_bytes: OnBytes) -> Flow[None]:
    """One connection's bytes."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={part.size}-"} if part.size else {})
    opened: Opened = yield Open(replace(request, headers=headers))
    check(opened.response)
    if part.size and opened.response.status_code != httpx.codes.PARTIAL_CONTENT:  # it sends the whole file again
        on_bytes(-part.size)
        part.restart()
    while (piece := (yield Read(opened))) is not None:
        part.append(piece)
        on_bytes(len(piece))
    yield Close(opened)


class _Part:
    """The beginning of a file. Named after what the file is to be, so that no other file's beginning is continued."""

    def __init__(self, artifact: Artifact, target: Path) -> None:
        self._artifact, self._target = artifact, target
        mark = hashlib.sha256(f"{target.name}/{artifact.sha256}".encode(errors="surrogateescape")).hexdigest()[:32]
        self._path = target.parent / f".{mark}.part"
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._is_closed = False
        self.size = 0

    def open(self) -> None:
        """Read what is there already. In a thread that nobody may be waiting for any more: then nothing stays open."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # a link in its place leads out of the folder
        self._file = os.fdopen(os.open(self._path, flags, 0o644), "r+b")
        if self._is_closed:
            self._file.close()
            return
        while piece := self._file.read(PIECE_BYTES):
            self._digest.update(piece)
            self.size += len(piece)
        if self.size > self._artifact.size_bytes:
            self.restart()

    def append(self, piece: bytes) -> None:
        """Raises: ChecksumMismatch: there is more than was promised."""
        if self.size + len(piece) > self._artifact.size_bytes:
            self._refuse("of a longer file")
        self._opened().write(piece)
        self._digest.update(piece)
        self.size += len(piece)

    def restart(self) -> None:
        self._opened().seek(0)
        self._opened().truncate()
        self._digest, self.size = hashlib.sha256(), 0

    def finish(self) -> None:
        """Put it in its place. Raises: ChecksumMismatch."""
        if self._digest.hexdigest() != self._artifact.sha256:
            self._refuse(self._digest.hexdigest())
        self.close()
        self._path.replace(self._target)

    def close(self) -> None:
        self._is_closed = True
        if self._file is not None:
            self._file.close()

    def _opened(self) -> BinaryIO:
        assert self._file is not None, "it is opened first"
        return self._file

    def _refuse(self, actual: str) -> None:
        self._path.unlink(missing_ok=True)
        raise ChecksumMismatch(self._artifact.name, self._artifact.sha256, actual)


def _is_here(target: Path, artifact: Artifact) -> bool:
    if not target.is_file() or target.stat().st_size != artifact.size_bytes:
        return False
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == artifact.sha256
