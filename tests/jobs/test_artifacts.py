import hashlib
import os
from pathlib import Path

import pytest

from jobs import artifacts
from jobs.artifacts import ArtifactStore, artifact_store
from jobs.errors import ArtifactCorrupt
from jobs.settings import Settings

CHUNK_BYTES = 1000


@pytest.fixture
def store(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    monkeypatch.setattr(artifacts, "CHUNK_BYTES", CHUNK_BYTES)
    return artifact_store(settings)


@pytest.fixture
def content() -> bytes:
    return os.urandom(3 * CHUNK_BYTES + 17)


@pytest.fixture
def sha256(store: ArtifactStore, content: bytes, tmp_path: Path) -> str:
    (tmp_path / "file").write_bytes(content)
    return store.put_file(tmp_path / "file")[0]


def stored_file(settings: Settings, sha256: str) -> Path:
    (found,) = (settings.data_dir / "artifacts").rglob(sha256)
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


def test_storing_the_same_bytes_again_changes_nothing(
    store: ArtifactStore, settings: Settings, sha256: str, tmp_path: Path
) -> None:
    before = stored_file(settings, sha256).stat()
    assert store.put_file(tmp_path / "file")[0] == sha256
    after = stored_file(settings, sha256).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_changed_bit_is_found_before_its_chunk_is_given_out(
    store: ArtifactStore, settings: Settings, sha256: str, content: bytes
) -> None:
    damaged = bytearray(content)
    damaged[2 * CHUNK_BYTES + 5] ^= 1
    stored_file(settings, sha256).write_bytes(damaged)
    assert b"".join(store.stream(sha256, 0, 2 * CHUNK_BYTES)) == content[: 2 * CHUNK_BYTES]
    with pytest.raises(ArtifactCorrupt, match="bytes 2000 to 3000"):
        list(store.stream(sha256, 2100, 2101))


def test_a_file_cut_short_is_found(store: ArtifactStore, settings: Settings, sha256: str, content: bytes) -> None:
    stored_file(settings, sha256).write_bytes(content[:2500])
    with pytest.raises(ArtifactCorrupt):
        list(store.stream(sha256))


@pytest.mark.parametrize("suffix", ["", ".chunks"], ids=["file", "digests"])
def test_a_file_that_is_gone_is_found(store: ArtifactStore, settings: Settings, sha256: str, suffix: str) -> None:
    stored_file(settings, sha256 + suffix).unlink()
    with pytest.raises(ArtifactCorrupt):
        list(store.stream(sha256))


def test_a_damaged_file_is_healed_by_storing_it_again_when_its_size_shows_it(
    store: ArtifactStore, settings: Settings, sha256: str, content: bytes, tmp_path: Path
) -> None:
    stored_file(settings, sha256).write_bytes(content[:10])
    store.put_file(tmp_path / "file")
    assert b"".join(store.stream(sha256)) == content
