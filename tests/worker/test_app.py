"""The worker as it is started for real: Celery, a broker, a database. The job's runner waits at a lock that the test holds."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from cli.embedded import ValkeyServer
from jobs.database import Sessions
from jobs.queue import make_celery, ring, rings_waiting
from jobs.settings import Settings
from jobs.states import State
from jobs.watching import presence
from jobs.watching.presence import WorkerStatus
from tests.waiting import wait_until
from tests.worker.conftest import Submit, read_job

COMMAND = (sys.executable, "-m", "celery", "-A", "worker.app", "worker", "--pool", "threads")


@pytest.fixture
def served(settings: Settings, valkey: ValkeyServer) -> Settings:
    return settings.model_copy(update={"broker_url": valkey.url})


@contextmanager
def worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "PATH": os.environ["PATH"],
        "SCALPEL_DATA_DIR": str(settings.data_dir),
        "SCALPEL_DATABASE_URL": settings.database_url,
        "SCALPEL_BROKER_URL": settings.broker_url or "",
        "SCALPEL_MODEL_ROOTS": str(settings.model_roots[0]),
        "SCALPEL_DEVICE": "cpu",
        "SCALPEL_CPU_SLOTS": str(settings.cpu_slots or 1),
        "SCALPEL_LEASE_S": "60",
        "SCALPEL_HEARTBEAT_S": "0.2",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(COMMAND, env=environment, stdout=output, stderr=output, start_new_session=True)
        with process:
            try:
                yield process
            finally:
                process.kill()


@contextmanager
def locked(settings: Settings, job_id: str) -> Iterator[None]:
    """The job's runner waits for as long as this is open."""
    path = settings.scratch_dir / "jobs" / job_id / "lock"
    path.parent.mkdir(parents=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ring_for(settings: Settings) -> None:
    celery = make_celery(settings)
    ring(celery)
    celery.close()


def waiting(settings: Settings) -> int:
    celery = make_celery(settings)
    count = rings_waiting(celery)
    celery.close()
    return count


def runner_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    found: list[psutil.Process] = []

    def is_there() -> bool:
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.NoSuchProcess):  # a helper of a library that has just ended
                if "worker.runner" in child.cmdline():
                    found.append(child)
        return bool(found)

    wait_until(is_there)
    return found[0]


def test_a_busy_worker_leaves_rings_to_others_and_hands_its_job_back_on_sigterm(
    served: Settings, sessions: Sessions, submit: Submit, tmp_path: Path
) -> None:
    job_id = submit(max_attempts=1)
    with locked(served, job_id), worker(served, tmp_path / "log") as process:
        ring_for(served)
        runner = runner_of(process)
        ring_for(served)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        assert waiting(served) == 1
        process.terminate()
        process.wait(20)
        assert not runner.is_running()
    job = read_job(sessions, job_id)
    assert (job.state, job.attempt, job.max_attempts) == (State.QUEUED, 1, 2)


def test_ctrl_c_of_the_whole_group_leaves_no_child(
    served: Settings, sessions: Sessions, submit: Submit, tmp_path: Path
) -> None:
    job_id = submit()
    with locked(served, job_id), worker(served, tmp_path / "log") as process:
        ring_for(served)
        runner = runner_of(process)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
        assert not runner.is_running()
    assert read_job(sessions, job_id).state is State.QUEUED


def test_a_killed_worker_leaves_no_child(served: Settings, submit: Submit, tmp_path: Path) -> None:
    job_id = submit()
    with locked(served, job_id), worker(served, tmp_path / "log") as process:
        ring_for(served)
        runner = runner_of(process)
        process.kill()
        wait_until(lambda: not runner.is_running() or runner.status() == psutil.STATUS_ZOMBIE)


def test_worker_runs_a_job_on_each_slot_at_once_and_tells_of_them(
    served: Settings, sessions: Sessions, submit: Submit, tmp_path: Path
) -> None:
    served = served.model_copy(update={"cpu_slots": 2})
    first, second = submit(), submit()
    with locked(served, first), locked(served, second), worker(served, tmp_path / "log") as process:
        ring_for(served)
        ring_for(served)
        wait_until(lambda: {read_job(sessions, job_id).state for job_id in (first, second)} == {State.RUNNING})

        def shown() -> list[WorkerStatus]:
            with sessions() as session:
                return presence.workers(session, lost_after_s=60.0)

        wait_until(lambda: len(shown()) == 1)
        (status,) = shown()
        assert (status.state, status.worker.pid, [slot.device for slot in status.slots]) == ("busy", process.pid, ["cpu"] * 2)
        assert {job.job_id for job in status.running.values()} == {first, second}
        assert min(status.worker.memory_bytes, status.worker.memory_free_bytes, status.worker.disk_bytes) > 0
        process.terminate()
        process.wait(20)
        assert shown() == [], "a worker that ends in order takes its row along"
    assert {read_job(sessions, job_id).state for job_id in (first, second)} == {State.QUEUED}
