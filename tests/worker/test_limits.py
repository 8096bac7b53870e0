"""Jobs that take more than they may: memory, disk space, time. Each ends in a failure that says what, how much, the cure."""

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.database import Sessions
from jobs.failure import Failure
from jobs.limits import run_limit_s
from jobs.request import JobRequest
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Job
from tests import tiny_models
from tests.waiting import wait_until
from tests.worker.conftest import MakeHost, Submit, events, read_job
from tests.worker.greedy_runner import MEBIBYTE
from worker.attempt import Host
from worker.supervisor import Supervisor

SCRIPT = Path(__file__).with_name("greedy_runner.py")
IMPORTED = SCRIPT.with_name("scripted_runner.py")  # named in the command, so that an isolated runner may read it
LIMIT_BYTES = 100 * MEBIBYTE

Greedy = Callable[..., Host]


@pytest.fixture
def greedy(scripted: MakeHost) -> Greedy:
    """A host whose runner takes too much, with these settings."""

    def greedy(behaviour: str, **settings: Any) -> Host:
        host = scripted("unused")
        changed = Settings.model_validate(host.settings.model_dump() | settings)
        return replace(host, settings=changed, runner_command=(sys.executable, str(SCRIPT), behaviour, str(IMPORTED)))

    return greedy


def failure(sessions: Sessions, job_id: str) -> Failure:
    job = read_job(sessions, job_id)
    assert job.state is State.FAILED and job.error is not None
    return Failure.model_validate(job.error)


def warnings(sessions: Sessions, job_id: str) -> list[str]:
    notes = [event.data for event in events(sessions, job_id) if event.type == "note"]
    return [note["message"] for note in notes if note["level"] == "warning"]


def is_left(settings: Settings, job_id: str) -> bool:
    return (settings.scratch_dir / "jobs" / job_id).exists()


class TestMemory:
    def test_a_runner_beyond_its_limit_is_ended_tried_once_with_less_and_fails(
        self, sessions: Sessions, submit: Submit, greedy: Greedy, settings: Settings
    ) -> None:
        job_id = submit()
        assert Supervisor(greedy("gobble", memory_limit_bytes=LIMIT_BYTES)).work_off() == 1
        ended = failure(sessions, job_id)
        assert (ended.type, ended.memory_limit_bytes) == ("out-of-memory", LIMIT_BYTES)
        assert ended.peak_memory_bytes is not None and ended.peak_memory_bytes > LIMIT_BYTES / 2
        assert str(LIMIT_BYTES) in ended.detail and "memory_limit_bytes" in ended.detail
        (note,) = warnings(sessions, job_id)
        assert "low-memory plan" in note and str(LIMIT_BYTES) in note
        assert read_job(sessions, job_id).attempt == 1
        assert not is_left(settings, job_id)

    @pytest.mark.parametrize("behaviour", ["gobble-unless-saving", "refuse-unless-saving"], ids=["killed", "typed"])
    def test_the_plan_that_needs_less_may_do(self, sessions: Sessions, submit: Submit, greedy: Greedy, behaviour: str) -> None:
        job_id = submit(max_attempts=1)
        Supervisor(greedy(behaviour, memory_limit_bytes=LIMIT_BYTES)).work_off()
        assert read_job(sessions, job_id).state is State.SUCCEEDED
        assert len(warnings(sessions, job_id)) == 1

    def test_a_child_of_the_runner_beyond_its_limit_is_ended_alone(
        self, sessions: Sessions, submit: Submit, greedy: Greedy
    ) -> None:
        """Such as the process that only tries to load the artifact: the report says then that it could not."""
        job_id = submit(max_attempts=1)
        Supervisor(greedy("let-a-child-gobble", memory_limit_bytes=LIMIT_BYTES)).work_off()
        assert read_job(sessions, job_id).state is State.SUCCEEDED

    def test_a_model_that_cannot_fit_is_refused_before_its_runner_starts(
        self, sessions: Sessions, submit: Submit, greedy: Greedy, tmp_path: Path
    ) -> None:
        model = tiny_models.save(tmp_path / "models" / "llama", "llama", torch.bfloat16)
        job_id = submit(max_attempts=1, model=str(model))
        Supervisor(greedy("gobble", memory_limit_bytes=50_000)).work_off()
        ended = failure(sessions, job_id)
        assert (ended.type, ended.memory_limit_bytes, ended.peak_memory_bytes) == ("out-of-memory", 50_000, None)
        assert "largest block alone take" in ended.detail


def test_a_job_whose_runner_dies_every_time_ends_with_what_was_seen_of_it(
    sessions: Sessions, submit: Submit, greedy: Greedy, settings: Settings
) -> None:
    job_id = submit(max_attempts=2)
    assert Supervisor(greedy("die-with-memory")).work_off() == 2
    ended = failure(sessions, job_id)
    assert (ended.type, ended.exit_signal, ended.exit_code) == ("attempts-exhausted", "SIGKILL", None)
    assert ended.last_words == "my last words"
    assert ended.peak_memory_bytes is not None and 64 * MEBIBYTE < ended.peak_memory_bytes < 256 * MEBIBYTE
    assert not is_left(settings, job_id)


class TestDisk:
    @pytest.mark.parametrize("behaviour", ["fill", "fill-unseen"])
    def test_a_job_beyond_its_quota_is_ended(
        self, sessions: Sessions, submit: Submit, greedy: Greedy, settings: Settings, behaviour: str
    ) -> None:
        job_id, quota = submit(), 32 * MEBIBYTE
        assert Supervisor(greedy(behaviour, scratch_quota_bytes=quota)).work_off() == 1
        ended = failure(sessions, job_id)
        assert ended.type == "scratch-quota-exceeded" and str(quota) in ended.detail
        assert read_job(sessions, job_id).attempt == 1, "another attempt would meet it again"
        assert not is_left(settings, job_id)

    def test_a_full_disk_is_tried_again_and_then_typed(self, sessions: Sessions, submit: Submit, greedy: Greedy) -> None:
        job_id = submit(max_attempts=2)
        assert Supervisor(greedy("report-a-full-disk")).work_off() == 2
        assert failure(sessions, job_id).type == "disk-full"


class TestTime:
    def test_a_job_whose_time_is_used_up_is_ended(
        self, sessions: Sessions, submit: Submit, greedy: Greedy, settings: Settings
    ) -> None:
        job_id = submit()
        _give(sessions, job_id, run_limit_s=1.0)
        assert Supervisor(greedy("hang")).work_off() == 1
        ended = failure(sessions, job_id)
        assert ended.type == "deadline-exceeded" and "limits.run_s" in ended.detail
        assert read_job(sessions, job_id).running_s >= 1.0
        assert not is_left(settings, job_id)

    def test_earlier_attempts_count(self, sessions: Sessions, submit: Submit, greedy: Greedy) -> None:
        job_id = submit()
        _give(sessions, job_id, run_limit_s=3600.0, running_s=3600.0)
        Supervisor(greedy("hang")).work_off()
        assert failure(sessions, job_id).type == "deadline-exceeded"

    def test_waiting_in_the_queue_does_not(self, sessions: Sessions, submit: Submit, greedy: Greedy) -> None:
        job_id = submit()
        _give(sessions, job_id, run_limit_s=3600.0, created_at=datetime.now(UTC) - timedelta(days=1))
        host = greedy("hang")
        thread = threading.Thread(target=Supervisor(host).work_off)
        thread.start()
        try:
            wait_until(lambda: any(event.type == "note" for event in events(sessions, job_id)))
        finally:
            host.shutdown.set()
            thread.join(20)
        job = read_job(sessions, job_id)
        assert job.state is State.QUEUED and 0.0 < job.running_s < 3600.0

    def test_the_request_says_how_long(self) -> None:
        request = JobRequest.model_validate({"model": "demo:x", "recipe": {"bits": 4}, "limits": {"run_s": 7}})
        assert run_limit_s(request.limits, Settings()) == 7.0


def _give(sessions: Sessions, job_id: str, **values: Any) -> None:
    with sessions.begin() as session:
        job = session.get_one(Job, job_id)
        for column, value in values.items():
            setattr(job, column, value)
