"""A tiny real model through the true runner, stopped in mid-pass on one host and taken up by another.

Only the database and the artifact store are theirs in common.
"""

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compression import __version__
from compression.report import Report
from jobs import attempts, repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.states import State
from jobs.store import checkpoints
from jobs.store.artifacts import artifact_store
from jobs.tables import Job
from tests import tiny_models
from tests.waiting import wait_until
from tests.worker.conftest import Submit, events, read_job
from tests.worker.interfered_runner import OLD_VERSION
from tests.worker.test_supervisor import working
from worker.attempt import RUNNER_COMMAND, Attempt, Host
from worker.supervisor import Supervisor

PATIENCE_S = 120.0  # a runner imports torch, on a machine that others use as well
INTERFERED = Path(__file__).with_name("interfered_runner.py")

HostNamed = Callable[..., Host]


@pytest.fixture
def host(settings: Settings, sessions: Sessions) -> HostNamed:
    """Hosts by name, each with a scratch folder of its own, whose runner is disturbed as said."""

    def host(name: str, disturbance: str | None = None) -> Host:
        command = RUNNER_COMMAND if disturbance is None else (sys.executable, str(INTERFERED), disturbance)
        own = settings.model_copy(update={"scratch_dir": settings.data_dir / f"scratch-{name}"})
        return Host(own, sessions, artifact_store(settings), os.environ, threading.Event(), command)

    return host


@pytest.fixture
def ask(settings: Settings, submit: Submit) -> Callable[[], str]:
    """Submits the same compression each time; gives the job's id."""
    root = settings.model_roots[0]
    text = root / "text.txt"
    text.write_text(tiny_models.text())
    model = str(tiny_models.save(root / "llama"))

    def ask() -> str:
        return submit(
            model=model,
            recipe={"sparsity": 0.5, "method": "sparsegpt"},
            calibration={"source": str(text), "nsamples": 4, "seqlen": 32},
            evaluation={"sources": [str(text)], "windows": 2, "seqlen": 32},
        )

    return ask


def attempt_once(host: Host) -> None:
    with host.sessions.begin() as session:
        job = attempts.claim(session, "this host", host.settings.lease_s)
    assert job is not None
    Attempt(host, job).run()


def finish(host: Host, job_id: str) -> Report:
    """Work the job off on this host; its report."""
    assert Supervisor(host).work_off() == 1
    job = read_job(host.sessions, job_id)
    assert job.state is State.SUCCEEDED, job.error
    with host.sessions() as session:
        found = repository.report(session, OURS, job_id)
    return Report.model_validate_json(b"".join(host.store.stream(found.sha256)))


def manifest(sessions: Sessions, job_id: str) -> list[str]:
    with sessions() as session:
        return [file.name for file in checkpoints.kept(session, job_id)]


def blocks(sessions: Sessions, job_id: str, attempt: int) -> list[tuple[int, bool]]:
    told = [event.data for event in events(sessions, job_id) if event.type == "block" and event.attempt == attempt]
    return [(data["block"], data["is_replayed"]) for data in told]


def notes(sessions: Sessions, job_id: str) -> str:
    return "\n".join(event.data["message"] for event in events(sessions, job_id) if event.type == "note")


def fingerprint(sessions: Sessions, job_id: str) -> str:
    with sessions() as session:
        (found,) = {file.fingerprint for file in checkpoints.kept(session, job_id)}
    return found


def layers_of_second_block(sessions: Sessions, job_id: str) -> list[str]:
    names = [event.data["result"]["name"] for event in events(sessions, job_id) if event.type == "layer"]
    return [name for name in names if ".1." in name]


def is_in_second_block(sessions: Sessions, job_id: str) -> bool:
    return bool(layers_of_second_block(sessions, job_id))


def stopped(job: Job) -> tuple[State, int]:
    """The state, and the attempts left."""
    return job.state, job.max_attempts - job.attempt


BLOCK_FILES = [f"block-{index:05d}.safetensors" for index in range(tiny_models.BLOCKS)]


def test_another_host_continues_bit_identically_after_a_kill(
    sessions: Sessions, host: HostNamed, ask: Callable[[], str]
) -> None:
    job_id = ask()
    attempt_once(host("A", "kill"))
    assert stopped(read_job(sessions, job_id)) == (State.QUEUED, 2)
    assert manifest(sessions, job_id) == [*BLOCK_FILES[:2], "fingerprint.json"]

    report = finish(host("B"), job_id)
    assert blocks(sessions, job_id, 2) == [(1, True), (2, True), (3, False)]
    assert (report.resumed_blocks, report.restarts) == (2, ())
    assert "brought here from the artifact store: 2" in notes(sessions, job_id)
    undisturbed = finish(host("C"), ask())
    assert undisturbed.resumed_blocks == 0
    assert undisturbed.environment == report.environment
    assert report.payload_digest == undisturbed.payload_digest
    assert report.results == undisturbed.results
    assert manifest(sessions, job_id) == []


def test_blocks_of_another_version_are_solved_again_and_the_events_say_so(
    sessions: Sessions, host: HostNamed, ask: Callable[[], str]
) -> None:
    job_id = ask()
    attempt_once(host("A", "kill-old"))
    old = fingerprint(sessions, job_id)
    attempt_once(host("A", "kill"))
    assert blocks(sessions, job_id, 2) == [(1, False), (2, False)]
    words = f"not used: scalpel version was {OLD_VERSION}, is {__version__}"
    assert [event.data["level"] for event in events(sessions, job_id) if words in event.data.get("message", "")] == ["warning"]
    assert fingerprint(sessions, job_id) != old, "the manifest is the new version's"


def test_a_worker_that_must_go_finishes_the_block_and_gives_the_job_back(
    sessions: Sessions, host: HostNamed, ask: Callable[[], str]
) -> None:
    job_id = ask()
    with working(host("A", "wait")):
        wait_until(lambda: is_in_second_block(sessions, job_id), PATIENCE_S)
    assert stopped(read_job(sessions, job_id)) == (State.QUEUED, 3), "no attempt is charged"
    assert blocks(sessions, job_id, 1) == [(1, False), (2, False)]
    assert manifest(sessions, job_id) == [*BLOCK_FILES[:2], "fingerprint.json"]


def test_a_pause_stops_at_the_next_module_and_keeps_what_is_finished(
    sessions: Sessions, host: HostNamed, ask: Callable[[], str]
) -> None:
    job_id = ask()
    with working(host("A", "wait")) as thread:
        wait_until(lambda: is_in_second_block(sessions, job_id), PATIENCE_S)
        with sessions.begin() as session:
            repository.request_pause(session, OURS, job_id)
        thread.join(PATIENCE_S)
    job = read_job(sessions, job_id)
    assert (stopped(job), job.owner, job.lease_expires_at) == ((State.PAUSED, 3), None, None)
    assert len(layers_of_second_block(sessions, job_id)) == 1
    assert manifest(sessions, job_id) == [BLOCK_FILES[0], "fingerprint.json"]


def test_what_can_not_be_drained_in_time_is_stopped(sessions: Sessions, host: HostNamed, submit: Submit) -> None:
    job_id, slow = submit(), host("A")
    script = (sys.executable, str(Path(__file__).with_name("scripted_runner.py")), "deaf")
    impatient = slow.settings.model_copy(update={"drain_s": 0.3, "grace_s": 0.2})
    with working(replace(slow, settings=impatient, runner_command=script)):
        wait_until(lambda: "pid" in notes(sessions, job_id), PATIENCE_S)
    assert stopped(read_job(sessions, job_id)) == (State.QUEUED, 3)
