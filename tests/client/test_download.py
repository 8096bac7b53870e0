import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import Artifact, ChecksumMismatch, Job, Scalpel, UnsafeName
from client.download import fetch_file, inside
from tests.api.standin import Worker

FILES = {"config.json": b"{}", "weights/model-00001-of-00001.safetensors": bytes(range(256)) * 5000}


def artifact(content: bytes) -> Artifact:
    return Artifact(name="x", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), href="")


def test_all_files_arrive_with_their_content(scalpel: Scalpel, job: Job, worker: Worker, tmp_path: Path) -> None:
    worker.succeed(worker.claim(), FILES)
    received: list[int] = []
    paths = scalpel.download(job.id, tmp_path / "out", on_bytes=received.append)
    found = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in paths}
    assert found == FILES
    assert sum(received) == sum(map(len, FILES.values()))


def test_nothing_else_is_left_beside_the_files(scalpel: Scalpel, job: Job, worker: Worker, tmp_path: Path) -> None:
    worker.succeed(worker.claim(), FILES)
    paths = scalpel.download(job.id, tmp_path / "out")
    assert sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file()) == sorted(paths)
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in paths)


def test_damaged_download_leaves_what_was_there_before(tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    target.write_bytes(b"before")
    with pytest.raises(ChecksumMismatch, match="download it again"):
        fetch_file([b"dam", b"aged"], artifact(b"intact"), target, lambda _: None)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        fetch_file(broken(), artifact(b"whole"), tmp_path / "x", lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "", ".", "a\\..\\b", "a\0b"])
def test_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeName):
        inside(tmp_path, name)
