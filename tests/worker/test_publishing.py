"""A store that fails half its writes, or all of them for a while: a real S3 server behind a proxy that breaks."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import obstore
import pytest

from jobs import repository
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.database import Sessions
from jobs.errors import StoreUnavailable
from jobs.settings import Settings
from jobs.states import State
from jobs.store import artifacts
from jobs.store.artifacts import artifact_store, object_store
from tests.s3 import Fault, FaultyProxy, S3Server
from tests.waiting import wait_until
from tests.worker.conftest import MakeHost, Submit, events, read_job
from worker import publishing
from worker.publishing import put_patiently
from worker.supervisor import Supervisor

WRITES = ("PUT", "POST")


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3.url) as made:
        yield made


@pytest.fixture
def settings(settings: Settings, s3: S3Server, proxy: FaultyProxy) -> Settings:
    return s3.settings(settings, proxy.url)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(11 * 1024 * 1024))  # three parts
    return path


def try_times(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """How often obstore sends one request, in stores made from here on."""
    monkeypatch.setattr(artifacts, "RETRIES", {**artifacts.RETRIES, "max_retries": times - 1})


def half(proxy: FaultyProxy) -> None:
    """Every second write fails, in turn in each way in which it can."""
    ways: tuple[Fault, ...] = ("refuse", "drop", "lose-answer")

    def fault(method: str, path: str, number: int) -> Fault:
        return ways[number // 2 % 3] if method in WRITES and number % 2 == 0 else None

    proxy.fault = fault


def test_half_of_the_writes_may_fail(settings: Settings, proxy: FaultyProxy, file: Path) -> None:
    half(proxy)
    store = artifact_store(settings)
    sha256, size_bytes = store.put_file(file)
    assert sum(fault is not None for _, _, fault in proxy.seen) >= 3
    assert b"".join(store.stream(sha256)) == file.read_bytes()
    assert size_bytes == file.stat().st_size


@pytest.mark.parametrize("part", [1, 2], ids=["second-part", "completion"])
def test_a_file_that_was_not_written_whole_is_not_there(
    settings: Settings, proxy: FaultyProxy, file: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is lost of it: no reader and no later writer takes the rest for the file."""
    try_times(monkeypatch, 2)
    marks = {1: "partNumber=2", 2: "?uploadId="}
    proxy.fault = lambda method, path, number: "drop" if method in WRITES and marks[part] in path else None
    store = artifact_store(settings)
    with pytest.raises(StoreUnavailable):
        store.put_file(file)
    kept = [meta["path"] for meta in obstore.list(object_store(settings)).collect()]
    assert all(name.endswith(".chunks") for name in kept)
    proxy.fault = lambda method, path, number: None
    sha256, _ = store.put_file(file)
    assert b"".join(store.stream(sha256)) == file.read_bytes()


def test_a_result_is_offered_again_until_the_store_takes_it(
    settings: Settings,
    sessions: Sessions,
    proxy: FaultyProxy,
    submit: Submit,
    scripted: MakeHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try_times(monkeypatch, 1)
    monkeypatch.setattr(publishing, "MAX_WAIT_S", 0.1)
    monkeypatch.setattr(publishing, "FIRST_WAIT_S", 0.1)
    proxy.fault = lambda method, path, number: "refuse" if method in WRITES else None
    host, job_id = scripted("succeed"), submit(max_attempts=1)
    thread = threading.Thread(target=Supervisor(host).work_off)
    thread.start()
    wait_until(lambda: proxy.count("PUT") >= 2)
    assert read_job(sessions, job_id).stage == "publishing"
    half(proxy)
    thread.join(30)
    job = read_job(sessions, job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
    with sessions() as session:
        files = repository.artifacts(session, LOCAL_TENANT_ID, job_id)
    assert {file.name: sum(map(len, host.store.stream(file.sha256))) for file in files} == {
        file.name: file.size_bytes for file in files
    }


def test_a_store_that_stays_away_costs_the_attempt_and_not_the_job(
    settings: Settings,
    sessions: Sessions,
    proxy: FaultyProxy,
    submit: Submit,
    scripted: MakeHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try_times(monkeypatch, 1)
    proxy.fault = lambda method, path, number: "refuse" if method in WRITES and number < 2 else None
    host = scripted("succeed")
    job_id = submit()
    Supervisor(replace(host, settings=settings.model_copy(update={"store_patience_s": 0.0}))).work_off()
    job = read_job(sessions, job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 3)
    told = [event.data["reason"] for event in events(sessions, job_id) if "reason" in event.data]
    assert told == ["The artifact store did not take config.json."] * 2, "and no address of ours"


def test_who_must_stop_does_not_wait_for_the_store(
    settings: Settings, proxy: FaultyProxy, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        pass

    try_times(monkeypatch, 1)
    proxy.fault = lambda method, path, number: "refuse"

    def check() -> None:
        if proxy.seen:
            raise Stop

    with pytest.raises(Stop):
        put_patiently(artifact_store(settings), file, check, patience_s=60.0)


def test_a_store_that_is_away_is_no_damage(
    settings: Settings, proxy: FaultyProxy, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers must not be told that their file is gone."""
    try_times(monkeypatch, 1)
    store = artifact_store(settings)
    sha256, _ = store.put_file(file)
    proxy.fault = lambda method, path, number: "drop"
    with pytest.raises(StoreUnavailable) as failure:
        list(store.stream(sha256))
    assert "127.0.0.1" not in str(failure.value)
