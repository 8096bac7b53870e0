"""Uploads against a true store, which fails when told to."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from compression.block_files import FINGERPRINT_FILE, block_path
from compression.events import BlockFinished
from jobs import attempts
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.store import checkpoints
from jobs.store.artifacts import ArtifactStore, artifact_store
from tests.waiting import wait_until
from tests.worker.conftest import Submit
from worker.checkpoints import restore
from worker.uploads import Uploads

PATIENCE_S = 20.0


class Store(ArtifactStore):
    """A store that is down until `is_up` is set."""

    is_up: threading.Event

    def put_file(self, path: Path) -> tuple[str, int]:
        if not self.is_up.is_set():
            raise ConnectionError("the store is away")
        return super().put_file(path)


@pytest.fixture
def store(settings: Settings) -> Store:
    made = artifact_store(settings)
    made.__class__ = Store
    assert isinstance(made, Store)
    made.is_up = threading.Event()
    made.is_up.set()
    return made


@pytest.fixture
def job_id(sessions: Sessions, submit: Submit) -> str:
    """A job in its first attempt."""
    submit()
    with sessions.begin() as session:
        job = attempts.claim(session, "worker", 60.0)
    assert job is not None
    return job.id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two finished blocks."""
    made = tmp_path / "blocks"
    made.mkdir()
    (made / FINGERPRINT_FILE).write_text("{}")
    for index in range(2):
        block_path(made, index).write_bytes(bytes([index]))
    return made


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def uploads(sessions: Sessions, store: Store, job_id: str, folder: Path, told: list[str]) -> Iterator[Uploads]:
    made = Uploads(sessions, store, job_id, 1, folder, told.append, draw=lambda: 0.0)
    yield made
    made.close()


def finished(block: int, *, is_replayed: bool = False) -> BlockFinished:
    return BlockFinished(
        block=block, blocks=2, fraction=0.5, eta_s=None, mean_relative_error=None, host_memory_bytes=0,
        device_memory_bytes=None, is_replayed=is_replayed,
    )  # fmt: skip


def manifest(sessions: Sessions, job_id: str) -> dict[str, str]:
    with sessions() as session:
        return {file.name: file.sha256 for file in checkpoints.kept(session, job_id)}


def block_names(*indices: int) -> list[str]:
    return [block_path(Path(), index).name for index in indices]


def test_a_store_that_was_down_gets_everything_once_it_is_back_and_one_note_tells_of_it(
    sessions: Sessions, store: Store, job_id: str, uploads: Uploads, told: list[str]
) -> None:
    store.is_up.clear()
    uploads.block_finished(finished(1))
    uploads.block_finished(finished(2))
    wait_until(lambda: told)
    store.is_up.set()
    assert uploads.flush(PATIENCE_S)
    assert list(manifest(sessions, job_id)) == [*block_names(0, 1), FINGERPRINT_FILE]
    assert len(told) == 1 and "block 1" in told[0]


def test_an_attempt_that_ends_does_not_wait_for_a_store_that_is_down(
    sessions: Sessions, store: Store, job_id: str, uploads: Uploads
) -> None:
    store.is_up.clear()
    uploads.block_finished(finished(1))
    assert not uploads.flush(PATIENCE_S)
    assert manifest(sessions, job_id) == {}


def test_a_block_without_file_and_a_link_are_passed_over(
    sessions: Sessions, job_id: str, folder: Path, uploads: Uploads
) -> None:
    block_path(folder, 0).unlink()
    block_path(folder, 0).symlink_to("/etc/hostname")
    for block in (1, 7, 2):
        uploads.block_finished(finished(block))
    assert uploads.flush(PATIENCE_S)
    assert list(manifest(sessions, job_id)) == [*block_names(1), FINGERPRINT_FILE]


def test_a_replayed_block_is_stored_only_where_the_manifest_lacks_it(
    sessions: Sessions, store: Store, job_id: str, folder: Path, uploads: Uploads, told: list[str]
) -> None:
    uploads.block_finished(finished(1))
    assert uploads.flush(PATIENCE_S)
    before = manifest(sessions, job_id)
    block_path(folder, 0).write_bytes(b"would be another object")
    again = Uploads(sessions, store, job_id, 1, folder, told.append)
    for block in (1, 2):
        again.block_finished(finished(block, is_replayed=True))
    assert again.flush(PATIENCE_S)
    again.close()
    after = manifest(sessions, job_id)
    assert list(after) == [*block_names(0, 1), FINGERPRINT_FILE]
    assert {name: after[name] for name in before} == before


def test_an_attempt_that_lost_the_job_stores_nothing_more(
    sessions: Sessions, job_id: str, uploads: Uploads, told: list[str]
) -> None:
    with sessions.begin() as session:
        attempts.retry(session, job_id, 1, "because")
    uploads.block_finished(finished(1))
    assert not uploads.flush(PATIENCE_S)
    assert (manifest(sessions, job_id), told) == ({}, [])


class TestRestore:
    @pytest.fixture
    def elsewhere(self, tmp_path: Path, uploads: Uploads) -> Path:
        """The blocks' folder on another host, while both blocks are in the store."""
        for block in (1, 2):
            uploads.block_finished(finished(block))
        assert uploads.flush(PATIENCE_S)
        return tmp_path / "elsewhere" / "blocks"

    @pytest.fixture
    def notes(self) -> list[str]:
        return []

    def bring(self, sessions: Sessions, store: Store, job_id: str, folder: Path, notes: list[str]) -> dict[str, bytes]:
        restore(sessions, store, job_id, folder, notes.append, lambda: None)
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}

    def test_an_empty_host_gets_all(
        self, sessions: Sessions, store: Store, job_id: str, folder: Path, elsewhere: Path, notes: list[str]
    ) -> None:
        found = self.bring(sessions, store, job_id, elsewhere, notes)
        assert found == {path.name: path.read_bytes() for path in folder.iterdir()}
        assert notes == ["finished blocks brought here from the artifact store: 2"]

    def test_a_host_that_has_some_gets_the_others(
        self, sessions: Sessions, store: Store, job_id: str, elsewhere: Path, notes: list[str]
    ) -> None:
        self.bring(sessions, store, job_id, elsewhere, [])
        block_path(elsewhere, 1).unlink()
        assert len(self.bring(sessions, store, job_id, elsewhere, notes)) == 3
        assert notes == ["finished blocks brought here from the artifact store: 1"]

    def test_blocks_of_another_pass_that_are_here_are_left_to_the_library(
        self, sessions: Sessions, store: Store, job_id: str, elsewhere: Path, notes: list[str]
    ) -> None:
        elsewhere.mkdir(parents=True)
        (elsewhere / FINGERPRINT_FILE).write_text('{"other": "host"}')
        assert list(self.bring(sessions, store, job_id, elsewhere, notes)) == [FINGERPRINT_FILE]
        assert notes == []

    def test_blocks_without_a_fingerprint_make_room(
        self, sessions: Sessions, store: Store, job_id: str, folder: Path, elsewhere: Path, notes: list[str]
    ) -> None:
        elsewhere.mkdir(parents=True)
        block_path(elsewhere, 0).write_bytes(b"whose?")
        found = self.bring(sessions, store, job_id, elsewhere, notes)
        assert found == {path.name: path.read_bytes() for path in folder.iterdir()}

    def test_a_damaged_block_is_left_out(
        self, settings: Settings, sessions: Sessions, store: Store, job_id: str, elsewhere: Path, notes: list[str]
    ) -> None:
        sha256 = manifest(sessions, job_id)[block_names(0)[0]]
        (settings.data_dir / "artifacts" / "sha256" / sha256[:2] / sha256).write_bytes(b"x")
        assert list(self.bring(sessions, store, job_id, elsewhere, notes)) == [*block_names(1), FINGERPRINT_FILE]
        assert notes == ["finished blocks brought here from the artifact store: 1"]
