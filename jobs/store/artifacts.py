"""Where results lie: a local folder or a bucket, addressed by content, never changed, verified on every read.

A file is stored under its SHA-256, and beside it the digests of its chunks. So a read of any range is verified before a byte
of it is given out, and without reading the rest.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

import obstore
from obstore.store import ObjectStore, S3Store, from_url
from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.errors import ArtifactCorrupt, StoreUnavailable
from jobs.settings import Settings
from jobs.store.presign import Presigner, presigner

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import RetryConfig, S3Config  # obstore exports them to type checkers only

CHUNK_BYTES = 8 * 1024 * 1024
ROOT = "sha256"
DIGESTS = ".chunks"
MAX_PUTS = 3
PAGE = 500  # of a listing; also the SHA-256s in one query, of which SQLite takes thousands
SHA256 = re.compile(r"[0-9a-f]{64}")
# Of one request; whoever can wait longer tries again himself, and can be told to stop in between.
RETRIES: "RetryConfig" = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
}


@contextmanager
def _answering() -> Iterator[None]:
    """The store's own words name hosts and keys: they are the cause, for the log, and never part of the message."""
    try:
        yield
    except obstore.exceptions.BaseError as error:
        raise StoreUnavailable from error


class _Chunks(BaseModel):
    """The object beside each stored file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    chunk_bytes: int
    digests: tuple[str, ...]


class ArtifactStore:
    """Immutable files by SHA-256. Safe to use from several threads and processes, while garbage is collected, too.

    Args: refresh_after_s: putting a file that is here already, for longer than this, stores it anew. So a file that was put is
        young, and garbage collection, which lets young files be, cannot take it before its row is written.
    """

    def __init__(self, store: ObjectStore, refresh_after_s: float = 12 * 3600.0, presigner: Presigner | None = None) -> None:
        self._store, self._refresh_after = store, timedelta(seconds=refresh_after_s)
        self._presigner = presigner

    @_answering()
    def put_file(self, path: Path) -> tuple[str, int]:
        """Store a file that nobody writes to any more; storing the same bytes again changes nothing but their age.

        Returns: (SHA-256 in hex, size in bytes). Raises: StoreUnavailable.
        """
        sha256, chunks = _digest(path)
        key = _key(sha256)
        found = self._head(key)
        if found is not None and found["size"] == chunks.size_bytes and self._is_young(found):
            return sha256, chunks.size_bytes
        for _ in range(MAX_PUTS):
            # The file comes last and appears whole or not at all: where it is, its chunk digests are too.
            obstore.put(self._store, key + DIGESTS, chunks.model_dump_json().encode())
            obstore.put(self._store, key, path)
            # An old one may have been on its way out as garbage while it was put again.
            if found is None or (self._head(key + DIGESTS) and self._head(key)):
                return sha256, chunks.size_bytes
        raise ArtifactCorrupt(f"stored file {sha256} vanishes as often as it is put")

    def fetch_file(self, sha256: str, path: Path) -> None:
        """Have a stored file at `path`; it is there whole and verified, or not at all.

        Raises: ArtifactCorrupt, StoreUnavailable.
        """
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
        StoreUnavailable: in the same way.
        """
        chunks = self._chunks(sha256)
        return self._pieces(sha256, chunks, start, chunks.size_bytes if end is None else min(end, chunks.size_bytes))

    def presigned_url(self, sha256: str, expires_s: int, filename: str) -> str | None:
        """Where anybody may fetch the file from the store itself for `expires_s` seconds; None where the store allows none.

        Nothing is verified on that way: the reader has the SHA-256. Args: filename: under which a browser saves it.
        """
        if self._presigner is None:
            return None
        disposition = f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
        answer = {"response-content-disposition": disposition, "response-content-type": "application/octet-stream"}
        return self._presigner.url(_key(sha256), expires_s, answer)

    def _pieces(self, sha256: str, chunks: _Chunks, start: int, end: int) -> Iterator[bytes]:
        size = chunks.chunk_bytes
        for index in range(start // size, -(-end // size) if start < end else 0):
            offset = index * size
            chunk = self._read_chunk(sha256, offset, min(size, chunks.size_bytes - offset))
            if hashlib.sha256(chunk).hexdigest() != chunks.digests[index]:
                raise ArtifactCorrupt(f"stored file {sha256} is damaged in bytes {offset} to {offset + len(chunk)}")
            yield chunk[max(0, start - offset) : end - offset]

    @_answering()
    def _read_chunk(self, sha256: str, offset: int, length: int) -> bytes:
        try:
            return bytes(obstore.get_range(self._store, _key(sha256), start=offset, length=length))
        except FileNotFoundError as error:
            raise ArtifactCorrupt(f"stored file {sha256} is gone") from error
        except obstore.exceptions.BaseError as error:
            if obstore.head(self._store, _key(sha256))["size"] < offset + length:
                raise ArtifactCorrupt(f"stored file {sha256} was cut short") from error
            raise

    @_answering()
    def _chunks(self, sha256: str) -> _Chunks:
        try:
            return _Chunks.model_validate_json(bytes(obstore.get(self._store, _key(sha256) + DIGESTS).bytes()))
        except (FileNotFoundError, ValidationError) as error:
            raise ArtifactCorrupt(f"the chunk digests of stored file {sha256} are gone or damaged") from error

    def stored_before(self, then: datetime) -> Iterator[set[str]]:
        """The SHA-256 of everything here that is older than `then`, a page at a time; digests without their file, too."""
        pages = iter(obstore.list(self._store, ROOT, chunk_size=PAGE))
        while (page := self._next_page(pages)) is not None:
            names = {entry["path"].rpartition("/")[2].removesuffix(DIGESTS) for entry in page if entry["last_modified"] < then}
            yield {name for name in names if SHA256.fullmatch(name)}

    @_answering()
    def _next_page(self, pages: "Iterator[Sequence[ObjectMeta]]") -> "Sequence[ObjectMeta] | None":
        return next(pages, None)

    @_answering()
    def remove_if_older(self, sha256: str, then: datetime) -> bool:
        """Remove a file that nothing points at, unless it was put again since `then`. Returns: whether it is gone.

        The digests go first: whoever puts the file meanwhile finds it, old, and looks again once it has put it.
        """
        keys = (_key(sha256) + DIGESTS, _key(sha256))
        if any(entry["last_modified"] >= then for key in keys if (entry := self._head(key)) is not None):
            return False
        for key in keys:
            with suppress(FileNotFoundError):
                obstore.delete(self._store, key)
        return True

    def _is_young(self, found: "ObjectMeta") -> bool:
        return datetime.now(UTC) - found["last_modified"] < self._refresh_after

    def _head(self, key: str) -> "ObjectMeta | None":
        try:
            return obstore.head(self._store, key)
        except FileNotFoundError:
            return None


def artifact_store(settings: Settings) -> ArtifactStore:
    """The store that the settings name: `file:///folder` or `s3://bucket/prefix`."""
    return ArtifactStore(object_store(settings), settings.garbage_grace_s / 2, presigner(settings))


def object_store(settings: Settings) -> ObjectStore:
    """What lies below: keys and bytes, nothing verified."""
    url = settings.artifact_url
    if url.startswith("file:"):
        return from_url(url, mkdir=True)
    if not url.startswith("s3:"):
        return from_url(url)
    key, secret = settings.artifact_access_key, settings.artifact_secret_key
    given = {
        "endpoint": settings.artifact_endpoint,
        "region": settings.artifact_region,
        "access_key_id": key and key.get_secret_value(),
        "secret_access_key": secret and secret.get_secret_value(),
    }
    is_plain_http = (settings.artifact_endpoint or "").startswith("http://")
    config = cast("S3Config", {name: value for name, value in given.items() if value})
    return S3Store.from_url(url, config=config, client_options={"allow_http": is_plain_http}, retry_config=RETRIES)


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
    return f"{ROOT}/{sha256[:2]}/{sha256}"
