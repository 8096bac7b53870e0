"""Where results lie: a local folder or a bucket, addressed by content, never changed, verified on every read.

A file is stored under its SHA-256, and beside it the digests of its chunks. So a read of any range is verified before a byte
of it is given out, and without reading the rest.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import obstore
from obstore.store import ObjectStore, S3Store, from_url
from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.errors import ArtifactCorrupt
from jobs.settings import Settings

if TYPE_CHECKING:
    from obstore.store import S3Config  # obstore exports it to type checkers only

CHUNK_BYTES = 8 * 1024 * 1024


class _Chunks(BaseModel):
    """The object beside each stored file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    chunk_bytes: int
    digests: tuple[str, ...]


class ArtifactStore:
    """Immutable files by SHA-256. Safe to use from several threads and processes."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put_file(self, path: Path) -> tuple[str, int]:
        """Store a file that nobody writes to any more; storing the same bytes again changes nothing.

        Returns: (SHA-256 in hex, size in bytes).
        """
        sha256, chunks = _digest(path)
        key = _key(sha256)
        if not self._holds(key, chunks.size_bytes):
            # The file comes last and appears whole or not at all: where it is, its chunk digests are too.
            obstore.put(self._store, f"{key}.chunks", chunks.model_dump_json().encode())
            obstore.put(self._store, key, path)
        return sha256, chunks.size_bytes

    def fetch_file(self, sha256: str, path: Path) -> None:
        """Have a stored file at `path`; it is there whole and verified, or not at all. Raises: ArtifactCorrupt."""
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as scratch:
            partial = Path(scratch) / path.name
            with partial.open("wb") as file:
                for piece in self.stream(sha256):
                    file.write(piece)
            partial.replace(path)

    def stream(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in pieces of at most `CHUNK_BYTES`.

        Raises: ArtifactCorrupt: at once where the file is gone, and from the iterator, in place of the first damaged piece.
        """
        chunks = self._chunks(sha256)
        return self._pieces(sha256, chunks, start, chunks.size_bytes if end is None else min(end, chunks.size_bytes))

    def _pieces(self, sha256: str, chunks: _Chunks, start: int, end: int) -> Iterator[bytes]:
        size = chunks.chunk_bytes
        for index in range(start // size, -(-end // size) if start < end else 0):
            offset = index * size
            chunk = self._read_chunk(sha256, offset, min(size, chunks.size_bytes - offset))
            if hashlib.sha256(chunk).hexdigest() != chunks.digests[index]:
                raise ArtifactCorrupt(f"stored file {sha256} is damaged in bytes {offset} to {offset + len(chunk)}")
            yield chunk[max(0, start - offset) : end - offset]

    def _read_chunk(self, sha256: str, offset: int, length: int) -> bytes:
        try:
            return bytes(obstore.get_range(self._store, _key(sha256), start=offset, length=length))
        except FileNotFoundError as error:
            raise ArtifactCorrupt(f"stored file {sha256} is gone") from error
        except obstore.exceptions.BaseError as error:
            if obstore.head(self._store, _key(sha256))["size"] < offset + length:
                raise ArtifactCorrupt(f"stored file {sha256} was cut short") from error
            raise

    def _chunks(self, sha256: str) -> _Chunks:
        try:
            return _Chunks.model_validate_json(bytes(obstore.get(self._store, f"{_key(sha256)}.chunks").bytes()))
        except (FileNotFoundError, ValidationError) as error:
            raise ArtifactCorrupt(f"the chunk digests of stored file {sha256} are gone or damaged") from error

    def _holds(self, key: str, size_bytes: int) -> bool:
        try:
            return obstore.head(self._store, key)["size"] == size_bytes
        except FileNotFoundError:
            return False


def artifact_store(settings: Settings) -> ArtifactStore:
    """The store that the settings name: `file:///folder` or `s3://bucket/prefix`."""
    url = settings.artifact_url
    if url.startswith("file:"):
        return ArtifactStore(from_url(url, mkdir=True))
    if not url.startswith("s3:"):
        return ArtifactStore(from_url(url))
    key, secret = settings.artifact_access_key, settings.artifact_secret_key
    given = {
        "endpoint": settings.artifact_endpoint,
        "region": settings.artifact_region,
        "access_key_id": key and key.get_secret_value(),
        "secret_access_key": secret and secret.get_secret_value(),
    }
    is_plain_http = (settings.artifact_endpoint or "").startswith("http://")
    config = cast("S3Config", {name: value for name, value in given.items() if value})
    return ArtifactStore(S3Store.from_url(url, config=config, client_options={"allow_http": is_plain_http}))


def _digest(path: Path) -> tuple[str, _Chunks]:
    whole, digests, size_bytes = hashlib.sha256(), [], 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            whole.update(chunk)
            digests.append(hashlib.sha256(chunk).hexdigest())
            size_bytes += len(chunk)
    return whole.hexdigest(), _Chunks(size_bytes=size_bytes, chunk_bytes=CHUNK_BYTES, digests=tuple(digests))


def _key(sha256: str) -> str:
    """Two levels, because folders with very many files are slow on some file systems."""
    return f"sha256/{sha256[:2]}/{sha256}"
