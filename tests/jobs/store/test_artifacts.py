"""What every store must do, on a local folder and on a bucket of a real S3 server."""

import hashlib
import os
from pathlib import Path

import obstore
import pytest
from obstore.store import ObjectStore

from jobs.errors import ArtifactCorrupt
from jobs.settings import Settings
from jobs.store import artifacts
from jobs.store.artifacts import ArtifactStore, artifact_store, object_store
from tests.s3 import S3Server

CHUNK_BYTES = 1000


@pytest.fixture(params=["local", "s3"])
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "local":
        return settings
    server: S3Server = request.getfixturevalue("s3")
    return server.settings(settings)


@pytest.fixture
def store(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.setattr(artifacts, "CHUNK_BYTES", CHUNK_BYTES)
    return artifact_store(settings)


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    """What lies below the store, to do harm to."""
    return object_store(settings)


@pytest.fixture
def content() -> bytes:
    return os.urandom(3 * CHUNK_BYTES + 17)


@pytest.fixture
def sha256(store: ArtifactStore, content: bytes, tmp_path: Path) -> str:
    (tmp_path / "file").write_bytes(content)
    return store.put_file(tmp_path / "file")[0]


def key(objects: ObjectStore, name: str) -> str:
    (found,) = (meta["path"] for meta in obstore.list(objects).collect() if meta["path"].endswith(name))
    return found


def test_a_file_is_named_by_its_content(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"weights")
    assert store.put_file(tmp_path / "file") == (hashlib.sha256(b"weights").hexdigest(), 7)


def test_bytes_come_back_as_they_were_put(store: ArtifactStore, sha256: str, content: bytes) -> None:
    assert b"".join(store.stream(sha256)) == content


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 1), (999, 1001), (1000, 2000), (2500, None), (3017, None), (5, 5), (0, 99_999)],
    ids=["first", "over-an-edge", "one-chunk", "tail", "past-the-end", "nothing", "end-beyond"],
)
def test_any_range_can_be_read(store: ArtifactStore, sha256: str, content: bytes, start: int, end: int | None) -> None:
    assert b"".join(store.stream(sha256, start, end)) == content[start:end]


def test_an_empty_file_is_a_file(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    sha256, size_bytes = store.put_file(tmp_path / "empty")
    assert (size_bytes, list(store.stream(sha256))) == (0, [])


def test_a_file_of_several_parts_comes_back(settings: Settings, tmp_path: Path) -> None:
    """Beyond some megabytes S3 is given a file in parts."""
    content = os.urandom(1024) * (17 * 1024) + b"end"
    (tmp_path / "large").write_bytes(content)
    store = artifact_store(settings)
    sha256, size_bytes = store.put_file(tmp_path / "large")
    assert size_bytes == len(content)
    assert b"".join(store.stream(sha256)) == content
    store.fetch_file(sha256, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == content


def test_storing_the_same_bytes_again_changes_nothing(
    store: ArtifactStore, objects: ObjectStore, sha256: str, tmp_path: Path
) -> None:
    before = obstore.head(objects, key(objects, sha256))
    assert store.put_file(tmp_path / "file")[0] == sha256
    assert obstore.head(objects, key(objects, sha256)) == before


def test_a_changed_bit_is_found_before_its_chunk_is_given_out(
    store: ArtifactStore, objects: ObjectStore, sha256: str, content: bytes
) -> None:
    damaged = bytearray(content)
    damaged[2 * CHUNK_BYTES + 5] ^= 1
    obstore.put(objects, key(objects, sha256), bytes(damaged))
    assert b"".join(store.stream(sha256, 0, 2 * CHUNK_BYTES)) == content[: 2 * CHUNK_BYTES]
    with pytest.raises(ArtifactCorrupt, match="bytes 2000 to 3000"):
        list(store.stream(sha256, 2100, 2101))


@pytest.mark.parametrize("length", [2500, 2000, 10], ids=["in-a-chunk", "at-an-edge", "nearly-all-gone"])
def test_a_file_cut_short_is_found(
    store: ArtifactStore, objects: ObjectStore, sha256: str, content: bytes, length: int
) -> None:
    obstore.put(objects, key(objects, sha256), content[:length])
    with pytest.raises(ArtifactCorrupt):
        list(store.stream(sha256))


@pytest.mark.parametrize("suffix", ["", ".chunks"], ids=["file", "digests"])
def test_a_file_that_is_gone_is_found(store: ArtifactStore, objects: ObjectStore, sha256: str, suffix: str) -> None:
    obstore.delete(objects, key(objects, sha256 + suffix))
    with pytest.raises(ArtifactCorrupt):
        list(store.stream(sha256))


def test_a_damaged_file_is_healed_by_storing_it_again_when_its_size_shows_it(
    store: ArtifactStore, objects: ObjectStore, sha256: str, content: bytes, tmp_path: Path
) -> None:
    obstore.put(objects, key(objects, sha256), content[:10])
    store.put_file(tmp_path / "file")
    assert b"".join(store.stream(sha256)) == content
