from pathlib import Path

import pytest

from client import Artifact, ChecksumMismatch, Job, Scalpel, ServiceUnreachable, UnsafeName, download
from client.download import inside
from tests.api.serving import Served
from tests.api.standin import Worker
from tests.client.cutting_proxy import cutting

WEIGHTS = "weights/model-00001-of-00001.safetensors"
FILES = {"config.json": b"{}", WEIGHTS: bytes(range(256)) * 5000}
SIZE = sum(map(len, FILES.values()))


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


def test_what_is_here_is_not_fetched_again(
    scalpel: Scalpel, service: Served, api_key: str, job: Job, worker: Worker, tmp_path: Path
) -> None:
    worker.succeed(worker.claim(), FILES)
    big, small = tmp_path / WEIGHTS, tmp_path / "config.json"
    scalpel.download(job.id, tmp_path)
    small.write_bytes(b"[]")  # of the right length, and not the right bytes
    before = big.stat()
    with cutting(service.port, 100_000, of_answers=True) as (url, cuts), Scalpel(url, api_key=api_key) as through:
        received: list[int] = []
        through.download(job.id, tmp_path, on_bytes=received.append)
    assert (small.read_bytes(), big.stat().st_mtime_ns, big.stat().st_ino) == (b"{}", before.st_mtime_ns, before.st_ino)
    assert (sum(received), cuts) == (SIZE, [])


def test_download_goes_on_over_connections_that_break(
    service: Served, api_key: str, job: Job, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RECONNECT_DELAYS_S", (0.01,) * 3)
    worker.succeed(worker.claim(), FILES)
    received: list[int] = []
    with cutting(service.port, 300_000, of_answers=True) as (url, cuts), Scalpel(url, api_key=api_key) as through:
        paths = through.download(job.id, tmp_path / "out", on_bytes=received.append, parallel=1)
    assert len(cuts) >= 4
    assert all(piece >= 0 for piece in received) and sum(received) == SIZE, "each byte came once"
    assert {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in paths} == FILES


def test_download_that_was_given_up_is_taken_up_by_the_next(
    scalpel: Scalpel, service: Served, api_key: str, job: Job, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "RECONNECT_DELAYS_S", ())
    worker.succeed(worker.claim(), FILES)
    (artifact,) = (found for found in job.artifacts() if found.name == WEIGHTS)
    target = tmp_path / WEIGHTS
    with (
        cutting(service.port, 0, of_answers=True) as (url, _),
        Scalpel(url, api_key=api_key) as through,
        pytest.raises(ServiceUnreachable, match="goes on from there"),
    ):
        through.download_file(job.id, artifact, target)
    assert not target.exists()
    begun = sum(path.stat().st_size for path in target.parent.iterdir())
    received: list[int] = []
    scalpel.download_file(job.id, artifact, target, on_bytes=received.append)
    assert (received[0], sum(received)) == (begun, artifact.size_bytes)
    assert target.read_bytes() == FILES[WEIGHTS]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("begun", [b"", b"wrong", bytes(2_000_000)], ids=["nothing", "a wrong beginning", "too much"])
def test_damaged_download_leaves_what_was_there_before(
    scalpel: Scalpel, job: Job, worker: Worker, tmp_path: Path, begun: bytes
) -> None:
    """The service promises another digest than its bytes have, with and without something that is here already."""
    worker.succeed(worker.claim(), FILES)
    (artifact,) = (found for found in job.artifacts() if found.name == WEIGHTS)
    wrong, target = artifact.model_copy(update={"sha256": "0" * 64}), tmp_path / "out" / "model.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"before")
    if begun:
        part = download._Part(wrong, target)
        part.open()
        part._opened().write(begun)
        part.close()
    with pytest.raises(ChecksumMismatch, match="download it again"):
        scalpel.download_file(job.id, wrong, target)
    assert [path.read_bytes() for path in target.parent.iterdir()] == [b"before"]


def test_more_bytes_than_promised_are_not_kept(scalpel: Scalpel, job: Job, worker: Worker, tmp_path: Path) -> None:
    worker.succeed(worker.claim(), FILES)
    (artifact,) = (found for found in job.artifacts() if found.name == WEIGHTS)
    with pytest.raises(ChecksumMismatch, match="longer"):
        scalpel.download_file(job.id, artifact.model_copy(update={"size_bytes": 10}), tmp_path / "out" / "x")
    assert list((tmp_path / "out").iterdir()) == []


def test_link_in_the_place_of_a_beginning_is_not_followed(tmp_path: Path) -> None:
    wanted = Artifact(name="x", size_bytes=1, sha256="0" * 64, href="")
    part = download._Part(wanted, tmp_path / "x")
    part._path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        part.open()
    assert not (tmp_path / "elsewhere").exists()


def test_beginning_that_is_opened_after_it_was_given_up_does_not_stay_open(tmp_path: Path) -> None:
    """Another download failed while a thread was about to open this one."""
    part = download._Part(Artifact(name="x", size_bytes=1, sha256="0" * 64, href=""), tmp_path / "x")
    part.close()
    part.open()
    assert part._opened().closed


def test_first_failure_ends_the_others(scalpel: Scalpel, job: Job, worker: Worker, tmp_path: Path) -> None:
    worker.succeed(worker.claim(), {f"part-{number}": b"x" for number in range(9)})
    (tmp_path / "part-3").mkdir()
    with pytest.raises(OSError, match="part-3"):
        scalpel.download(job.id, tmp_path)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "", ".", "a\\..\\b", "a\0b"])
def test_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeName):
        inside(tmp_path, name)
