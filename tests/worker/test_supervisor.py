"""The supervisor against real child processes: what becomes of the job, whatever the child does."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs import attempts, repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.settings import Settings
from jobs.states import State
from tests.waiting import wait_until
from tests.worker.conftest import MakeHost, Submit, events, read_job
from worker.attempt import Host
from worker.supervisor import Supervisor


@contextmanager
def working(host: Host) -> Iterator[threading.Thread]:
    """A supervisor at work in a thread of its own, as Celery runs it."""
    thread = threading.Thread(target=Supervisor(host).work_off)
    thread.start()
    try:
        yield thread
    finally:
        host.shutdown.set()
        thread.join(20)
        assert not thread.is_alive()


def child_pid(sessions: Sessions, job_id: str) -> int:
    """As the hanging child has told it."""
    notes = [event.data["message"] for event in events(sessions, job_id) if event.type == "note"]
    return next((int(note.removeprefix("pid ")) for note in notes if note.startswith("pid ")), 0)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def reasons(sessions: Sessions, job_id: str) -> list[str]:
    return [event.data["reason"] for event in events(sessions, job_id) if "reason" in event.data]


class TestSuccess:
    def test_the_artifact_is_published_and_the_events_tell_the_story(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost
    ) -> None:
        host, job_id = scripted("succeed"), submit()
        assert Supervisor(host).work_off() == 1
        assert read_job(sessions, job_id).state is State.SUCCEEDED
        told = [(event.type, event.data.get("stage") or event.data.get("state")) for event in events(sessions, job_id)]
        assert told == [
            ("state", "queued"),
            ("state", "running"),
            ("stage", "fetching"),
            ("stage", "compressing"),
            ("activity", None),
            ("block", None),
            ("note", None),
            ("stage", "publishing"),
            ("state", "succeeded"),
        ]
        with sessions() as session:
            files = repository.artifacts(session, OURS, job_id)
        assert [file.name for file in files] == ["config.json", "report.json"]
        assert b"".join(host.store.stream(files[0].sha256)) == b"{}"

    def test_the_job_s_folder_is_removed(self, settings: Settings, submit: Submit, scripted: MakeHost) -> None:
        submit()
        Supervisor(scripted("succeed")).work_off()
        assert list((settings.scratch_dir / "jobs").iterdir()) == []

    def test_all_queued_jobs_are_worked_off(self, sessions: Sessions, submit: Submit, scripted: MakeHost) -> None:
        jobs = [submit(), submit()]
        assert Supervisor(scripted("succeed")).work_off() == 2
        assert {read_job(sessions, job_id).state for job_id in jobs} == {State.SUCCEEDED}

    def test_the_child_knows_no_secret(self, sessions: Sessions, submit: Submit, scripted: MakeHost) -> None:
        host, job_id = scripted("succeed"), submit()
        Supervisor(host).work_off()
        with sessions() as session:
            report = repository.report(session, OURS, job_id)
        environment = json.loads(b"".join(host.store.stream(report.sha256)))["environment"]
        assert "secret" not in environment.values()
        assert environment["HF_HUB_OFFLINE"] == environment["TRANSFORMERS_OFFLINE"] == "1"
        assert environment["HOME"] == environment["TMPDIR"] != os.environ["HOME"]


class TestChildThatFails:
    def test_a_typed_refusal_fails_the_job_at_once(self, sessions: Sessions, submit: Submit, scripted: MakeHost) -> None:
        job_id = submit()
        assert Supervisor(scripted("refuse")).work_off() == 1
        job = read_job(sessions, job_id)
        assert (job.state, job.attempt) == (State.FAILED, 1)
        assert job.error is not None
        assert (job.error["type"], job.error["layer"]) == ("numerical-error", "model.layers.0")

    def test_a_killed_child_is_tried_again_up_to_the_limit(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost
    ) -> None:
        job_id = submit(max_attempts=2)
        assert Supervisor(scripted("crash")).work_off() == 2
        job = read_job(sessions, job_id)
        assert (job.state, job.attempt) == (State.FAILED, 2)
        assert job.error is not None and job.error["type"] == "attempts-exhausted"
        for words in (reasons(sessions, job_id)[0], job.error["detail"]):
            assert "SIGKILL" in words and "my last words" in words

    def test_the_next_attempt_finds_the_work_of_the_crashed_one(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost
    ) -> None:
        job_id = submit()
        assert Supervisor(scripted("crash-once")).work_off() == 2
        job = read_job(sessions, job_id)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 2)

    def test_it_is_tried_again_after_a_while_drawn_at_random(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost
    ) -> None:
        job_id, host = submit(), scripted("crash")
        patient = host.settings.model_copy(update={"retry_delay_s": 200.0})
        assert Supervisor(replace(host, settings=patient, draw=lambda: 0.25)).work_off() == 1
        job = read_job(sessions, job_id)
        assert 49 < (job.claimable_at - job.updated_at).total_seconds() < 51

    def test_the_end_of_very_long_last_words_is_kept(self, sessions: Sessions, submit: Submit, scripted: MakeHost) -> None:
        job_id = submit(max_attempts=2)
        Supervisor(scripted("raise")).work_off()
        job = read_job(sessions, job_id)
        assert job.error is not None
        assert "exit code 1" in job.error["detail"] and job.error["detail"].endswith("the very end")

    @pytest.mark.parametrize("behaviour", ["babble", "long-line"])
    def test_what_is_not_the_protocol_ends_the_child(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost, behaviour: str
    ) -> None:
        job_id = submit(max_attempts=1)
        Supervisor(scripted(behaviour)).work_off()
        job = read_job(sessions, job_id)
        assert job.error is not None and "not of the protocol" in job.error["detail"]

    def test_death_in_the_middle_of_a_line_is_a_crash(self, sessions: Sessions, submit: Submit, scripted: MakeHost) -> None:
        job_id = submit(max_attempts=1)
        Supervisor(scripted("half-line")).work_off()
        job = read_job(sessions, job_id)
        assert job.error is not None and "SIGKILL" in job.error["detail"]

    @pytest.mark.parametrize(
        ("behaviour", "words"), [("no-report", "left no report"), ("link", "no regular file")], ids=["no-report", "link"]
    )
    def test_an_artifact_that_is_none_is_not_published(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost, behaviour: str, words: str
    ) -> None:
        job_id = submit(max_attempts=1)
        Supervisor(scripted(behaviour)).work_off()
        job = read_job(sessions, job_id)
        assert job.state is State.FAILED
        assert job.error is not None and words in job.error["detail"]

    def test_a_runner_that_cannot_start_is_a_fault_of_the_host(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost
    ) -> None:
        job_id = submit(max_attempts=1)
        host = scripted("succeed")
        Supervisor(Host(**{**vars(host), "runner_command": ("/no/such/program",)})).work_off()
        job = read_job(sessions, job_id)
        assert job.error is not None and job.error["type"] == "attempts-exhausted"


class TestInputsThatFail:
    def test_a_model_that_is_not_there_fails_the_job_with_the_reason(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost, model: Path
    ) -> None:
        job_id = submit(model=str(model / "gone"))
        Supervisor(scripted("succeed")).work_off()
        job = read_job(sessions, job_id)
        assert (job.state, job.attempt) == (State.FAILED, 1)
        assert job.error is not None and job.error["type"] == "source-error"

    def test_a_text_that_is_not_there_fails_the_job_with_the_reason(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost, model: Path
    ) -> None:
        job_id = submit(calibration={"source": str(model / "gone.txt")})
        Supervisor(scripted("succeed")).work_off()
        job = read_job(sessions, job_id)
        assert job.error is not None and "gone.txt" in job.error["detail"]


class TestInterruption:
    @pytest.mark.parametrize("behaviour", ["hang", "deaf"])
    def test_a_cancelled_job_s_child_is_ended(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost, behaviour: str
    ) -> None:
        job_id = submit()
        with working(scripted(behaviour)) as thread:
            wait_until(lambda: child_pid(sessions, job_id))
            with sessions.begin() as session:
                repository.request_cancel(session, OURS, job_id)
            thread.join(20)
        assert read_job(sessions, job_id).state is State.CANCELLED
        assert not is_alive(child_pid(sessions, job_id))

    def test_a_shutdown_hands_the_job_back_with_its_attempt(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost, settings: Settings
    ) -> None:
        job_id = submit(max_attempts=1)
        with working(scripted("hang")):
            wait_until(lambda: child_pid(sessions, job_id))
        job = read_job(sessions, job_id)
        assert (job.state, job.max_attempts - job.attempt) == (State.QUEUED, 1)
        assert not is_alive(child_pid(sessions, job_id))
        assert (settings.scratch_dir / "jobs" / job_id).is_dir(), "the next attempt here continues from it"

    def test_a_worker_that_lost_its_job_ends_its_child_and_writes_nothing(
        self, sessions: Sessions, submit: Submit, scripted: MakeHost
    ) -> None:
        job_id = submit()
        with working(scripted("hang")) as thread:
            wait_until(lambda: child_pid(sessions, job_id))
            with sessions.begin() as session:
                attempts.requeue_expired(session, datetime.now(UTC) + timedelta(hours=1))
                other = attempts.claim(session, "another worker", 3600.0)
            thread.join(20)
        assert other is not None and other.id == job_id
        job = read_job(sessions, job_id)
        assert (job.state, job.attempt, job.owner) == (State.RUNNING, 2, "another worker")
        assert job.last_seq == other.last_seq
        assert not is_alive(child_pid(sessions, job_id))

    def test_the_lease_outlives_a_job_longer_than_it(self, sessions: Sessions, submit: Submit, scripted: MakeHost) -> None:
        job_id = submit()
        with working(scripted("hang")):
            wait_until(lambda: child_pid(sessions, job_id))
            first = read_job(sessions, job_id).lease_expires_at
            wait_until(lambda: read_job(sessions, job_id).lease_expires_at != first)


def test_folders_of_jobs_that_ended_elsewhere_are_removed(
    settings: Settings, sessions: Sessions, submit: Submit, scripted: MakeHost
) -> None:
    ended, alive = submit(), submit()
    for name in (ended, alive, "unknown"):
        (settings.scratch_dir / "jobs" / name / "work").mkdir(parents=True)
    with sessions.begin() as session:
        repository.request_cancel(session, OURS, ended)
        claimed = attempts.claim(session, "another worker on this host", 60.0)
    assert claimed is not None and claimed.id == alive
    Supervisor(scripted("succeed")).work_off()
    assert [folder.name for folder in (settings.scratch_dir / "jobs").iterdir()] == [alive]


def test_the_supervisor_never_imports_torch() -> None:
    program = "import sys, worker.tasks; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
