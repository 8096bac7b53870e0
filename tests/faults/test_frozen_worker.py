"""A worker that is stopped for longer than its lease and then wakes up: it may change nothing that is not its own any more."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from jobs.database import Sessions
from jobs.housekeeping.sweep import sweep
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Artifact
from tests.stack import environment_of
from tests.waiting import wait_until
from tests.worker.conftest import SCRIPT, MakeHost, Submit, events, read_job
from worker.folder import remove_abandoned
from worker.supervisor import Supervisor

FROZEN_RUNNER = Path(__file__).with_name("frozen_runner.py")
FROZEN_IN_TRANSACTION = """
import os, signal
from jobs import attempts, database
from jobs.settings import Settings

settings = Settings.from_mapping(os.environ)
sessions = database.sessions(database.engine(settings))
with sessions.begin() as session:
    job = attempts.claim(session, "one that freezes", settings.lease_s)
with sessions.begin() as session:
    attempts.renew(session, job.id, job.attempt, 3600)
    os.kill(os.getpid(), signal.SIGSTOP)  # the row is locked and the lease not yet renewed
"""
ONE_SLOT = Path(__file__).with_name("one_slot.py")

Freeze = Callable[["subprocess.Popen[bytes]"], None]


@contextmanager
def worker(settings: Settings, log: Path, *runner: str) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, str(ONE_SLOT), sys.executable, *runner]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment_of(settings), stdout=output, stderr=output)
    with process:
        try:
            yield process
        finally:
            process.kill()


def is_stopped(process: "subprocess.Popen[bytes]") -> bool:
    return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)


def files(sessions: Sessions, job_id: str) -> dict[str, str]:
    with sessions() as session:
        found = session.scalars(select(Artifact).where(Artifact.job_id == job_id))
        return {file.name: file.sha256 for file in found}


@pytest.mark.parametrize("moment", ["in mid-work", "with the result"])
def test_what_a_woken_worker_writes_is_refused(
    settings: Settings, sessions: Sessions, submit: Submit, scripted: MakeHost, tmp_path: Path, moment: str
) -> None:
    job_id, log = submit(max_attempts=2), tmp_path / "log"
    scratch = tmp_path / "scratch of the frozen one"
    own = settings.model_copy(update={"scratch_dir": scratch, "runner_isolation": False})  # a runner stops its worker
    runner = (str(SCRIPT), "count") if moment == "in mid-work" else (str(FROZEN_RUNNER),)
    with worker(own, log, *runner) as frozen:
        if moment == "in mid-work":
            wait_until(lambda: len(events(sessions, job_id)) > 5)
            frozen.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(frozen))
        wait_until(lambda: sweep(sessions, lambda _: None, lambda _: 0, 3600) == 1)
        assert Supervisor(scripted("succeed")).work_off() == 1
        told, given = events(sessions, job_id), files(sessions, job_id)
        (own.scratch_dir / "jobs" / job_id / "go").touch()  # the runner in mid-work comes to its end as well
        frozen.send_signal(signal.SIGCONT)
        assert frozen.wait(20) == 0, log.read_text()
    assert "was lost" in log.read_text() or "has lost its lease" in log.read_text()
    job = read_job(sessions, job_id)
    assert (job.state, job.attempt, job.error) == (State.SUCCEEDED, 2, None)
    assert [event.seq for event in events(sessions, job_id)] == [event.seq for event in told] == list(range(1, len(told) + 1))
    assert [event.data["state"] for event in told if event.type == "state"] == [
        "queued", "running", "queued", "running", "succeeded",
    ]  # fmt: skip
    assert files(sessions, job_id) == given and set(given) == {"config.json", "report.json"}
    remove_abandoned(own.scratch_dir, sessions)
    assert list((own.scratch_dir / "jobs").iterdir()) == []


def test_a_worker_frozen_in_mid_transaction_keeps_nobody_from_its_job(
    settings: Settings, sessions: Sessions, submit: Submit, scripted: MakeHost
) -> None:
    job_id = submit()
    command = [sys.executable, "-c", FROZEN_IN_TRANSACTION]
    with subprocess.Popen(command, env=environment_of(settings), stderr=subprocess.PIPE) as frozen:
        wait_until(lambda: is_stopped(frozen))
        swept: list[int] = []
        sweeping = threading.Thread(target=lambda: swept.append(sweep_until_taken(sessions)), daemon=True)
        sweeping.start()
        sweeping.join(20)
        frozen.send_signal(signal.SIGCONT)
        assert frozen.wait(20) == 1, "what it had begun is refused"
    assert swept == [1]
    assert Supervisor(scripted("succeed")).work_off() == 1
    assert read_job(sessions, job_id).state is State.SUCCEEDED


def sweep_until_taken(sessions: Sessions) -> int:
    while not (taken := sweep(sessions, lambda _: None, lambda _: 0, 3600)):
        time.sleep(0.05)
    return taken
