"""Faults in mid-flight of a real service (two workers, PostgreSQL, S3, Valkey): each job once, and always the same bytes."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from compression.manifest import REPORT_FILE
from compression.report import Report
from jobs.queue import make_celery, ring
from jobs.states import FINAL, State
from jobs.store.artifacts import artifact_store
from jobs.tables import Artifact
from tests.stack import Kept, Stack
from tests.waiting import wait_until
from tests.worker.conftest import events, read_job

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0  # a runner imports torch, on a machine that others use as well
RINGS = 10
WINDOWS = 500  # so that the blocks after the first take longer than it takes to see the first


def ask(stack: Stack, models: Path) -> str:
    """The same request every time."""
    text = str(models / "text.txt")
    with stack.client() as client:
        job = client.submit(
            str(models / "model"),
            {"sparsity": 0.5, "pattern": "2:4"},
            calibration={"source": text, "nsamples": WINDOWS, "seqlen": 64},
            evaluation={"sources": [text], "windows": 2, "seqlen": 64},
        )
    return job.id


def digest(stack: Stack, job_id: str) -> str:
    """Waits for the job's end. Returns: the payload digest of its report."""
    wait_until(lambda: read_job(stack.sessions, job_id).state in FINAL, PATIENCE_S)
    assert read_job(stack.sessions, job_id).state is State.SUCCEEDED, read_job(stack.sessions, job_id).error
    with stack.sessions() as session:
        report = session.get_one(Artifact, (job_id, REPORT_FILE))
    return Report.model_validate_json(b"".join(artifact_store(stack.settings).stream(report.sha256))).payload_digest


def states(stack: Stack, job_id: str) -> list[str]:
    told = events(stack.sessions, job_id)
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    return [event.data["state"] for event in told if event.type == "state"]


def is_past_first_block(stack: Stack, job_id: str) -> bool:
    return any(event.type == "block" for event in events(stack.sessions, job_id))


@pytest.fixture(scope="module")
def undisturbed(stack: Stack, models: Path) -> str:
    """The payload digest that every other job must have as well."""
    job_id = ask(stack, models)
    found = digest(stack, job_id)
    assert states(stack, job_id) == ["queued", "running", "succeeded"]
    return found


def worker_of(stack: Stack, job_id: str) -> Kept:
    """The one whose runner works in the job's folder."""
    return next(kept for kept in stack.kept.values() if any(job_id in runner.cwd() for runner in kept.runners()))


@contextmanager
def frozen(worker: Kept) -> Iterator[None]:
    """The worker and its runner, as a host that is paused."""
    processes = [psutil.Process(worker.process.pid), *worker.runners()]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def test_a_worker_frozen_past_its_lease_changes_nothing_when_it_wakes(stack: Stack, models: Path, undisturbed: str) -> None:
    job_id = ask(stack, models)
    wait_until(lambda: is_past_first_block(stack, job_id), PATIENCE_S)
    worker = worker_of(stack, job_id)
    with frozen(worker):
        assert digest(stack, job_id) == undisturbed
        told, files = states(stack, job_id), stored(stack, job_id)
    wait_until(lambda: not worker.runners(), PATIENCE_S)
    assert worker.starts == 1, "it lost the job and lives on"
    assert states(stack, job_id) == told == ["queued", "running", "queued", "running", "succeeded"]
    assert stored(stack, job_id) == files


def stored(stack: Stack, job_id: str) -> dict[str, str]:
    with stack.sessions() as session:
        return {row.name: row.sha256 for row in session.scalars(select(Artifact).where(Artifact.job_id == job_id))}


def test_flushall_in_mid_flight_loses_no_job(stack: Stack, models: Path, undisturbed: str) -> None:
    job_ids = [ask(stack, models) for _ in range(3)]  # two run, one waits
    wait_until(lambda: any(is_past_first_block(stack, job_id) for job_id in job_ids), PATIENCE_S)
    with stack.broker.client() as client:
        client.flushall()
    assert [digest(stack, job_id) for job_id in job_ids] == [undisturbed] * 3
    assert [states(stack, job_id) for job_id in job_ids] == [["queued", "running", "succeeded"]] * 3


def test_jobs_are_taken_while_the_broker_is_away_and_run_once_it_is_back(stack: Stack, models: Path, undisturbed: str) -> None:
    running = ask(stack, models)
    wait_until(lambda: is_past_first_block(stack, running), PATIENCE_S)
    stack.is_broker_away = True
    stack.broker.kill()
    waiting = ask(stack, models)
    assert digest(stack, running) == undisturbed, "what runs needs no broker"
    stack.is_broker_away = False
    assert digest(stack, waiting) == undisturbed
    assert states(stack, running) == states(stack, waiting) == ["queued", "running", "succeeded"]


def test_ten_rings_for_one_job_run_it_once(stack: Stack, models: Path, undisturbed: str) -> None:
    job_id = ask(stack, models)
    celery = make_celery(stack.settings)
    for _ in range(RINGS):
        ring(celery)
    celery.close()
    assert digest(stack, job_id) == undisturbed
    assert states(stack, job_id) == ["queued", "running", "succeeded"]
