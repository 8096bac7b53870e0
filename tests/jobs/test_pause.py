from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from jobs import attempts, repository
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.errors import IllegalTransition
from jobs.failure import Failure
from jobs.states import State
from jobs.tables import Ring
from tests.jobs.conftest import Submit


@pytest.fixture
def running(sessions: Sessions, submit: Submit) -> str:
    submit()
    with sessions.begin() as session:
        job = attempts.claim(session, "worker", 30.0)
    assert job is not None
    return job.id


def states(sessions: Sessions, job_id: str) -> list[str]:
    with sessions() as session:
        return [event.data["state"] for event in repository.events_after(session, job_id, 0) if event.type == "state"]


def rings(sessions: Sessions) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(Ring)) or 0


def test_a_queued_job_rests_at_once_and_is_rung_for_when_it_is_resumed(sessions: Sessions, submit: Submit) -> None:
    job_id = submit().id
    with sessions.begin() as session:
        assert repository.request_pause(session, OURS, job_id).state is State.PAUSED
        assert attempts.claim(session, "worker", 30.0) is None
    before = rings(sessions)
    with sessions.begin() as session:
        assert repository.resume(session, OURS, job_id).state is State.QUEUED
    assert rings(sessions) == before + 1
    with sessions.begin() as session:
        assert attempts.claim(session, "worker", 30.0) is not None
    assert states(sessions, job_id) == ["queued", "paused", "queued", "running"]


@pytest.mark.parametrize("end", ["hand_back", "retry", "expiry"])
def test_a_running_job_rests_without_worker_once_its_attempt_ends(sessions: Sessions, running: str, end: str) -> None:
    with sessions.begin() as session:
        flagged = repository.request_pause(session, OURS, running)
        assert (flagged.state, flagged.pause_requested) == (State.RUNNING, True)
    with sessions.begin() as session:
        match end:
            case "hand_back":
                attempts.hand_back(session, running, 1, "A pause.")
            case "retry":
                attempts.retry(session, running, 1, "because", delay_s=60.0)
            case _:
                attempts.requeue_expired(session, datetime.now(UTC) + timedelta(seconds=60))
    with sessions.begin() as session:
        job = repository.get(session, OURS, running)
        assert (job.state, job.pause_requested, job.owner, job.lease_expires_at) == (State.PAUSED, False, None, None)
        assert job.max_attempts == (4 if end == "hand_back" else 3), "a pause costs no attempt, a fault does"
        repository.resume(session, OURS, running)
        assert attempts.claim(session, "worker", 30.0) is not None


def test_a_request_can_be_taken_back_before_it_has_come_into_force(sessions: Sessions, running: str) -> None:
    with sessions.begin() as session:
        repository.request_pause(session, OURS, running)
        assert repository.resume(session, OURS, running).state is State.RUNNING
    with sessions.begin() as session:  # the worker had seen the request, and stopped
        assert attempts.hand_back(session, running, 1, "A pause.").state is State.QUEUED


def test_a_paused_job_can_be_cancelled(sessions: Sessions, submit: Submit) -> None:
    job_id = submit().id
    with sessions.begin() as session:
        repository.request_pause(session, OURS, job_id)
        assert repository.request_cancel(session, OURS, job_id).state is State.CANCELLED


def test_cancelling_beats_pausing(sessions: Sessions, running: str) -> None:
    with sessions.begin() as session:
        repository.request_pause(session, OURS, running)
        repository.request_cancel(session, OURS, running)
    with sessions.begin() as session:
        assert attempts.hand_back(session, running, 1, "A pause.").state is State.CANCELLED


def test_a_job_that_ends_before_it_has_paused_has_ended(sessions: Sessions, running: str) -> None:
    failure = Failure(type="numerical-error", title="It broke down", detail="NaN")
    with sessions.begin() as session:
        repository.request_pause(session, OURS, running)
    with sessions.begin() as session:
        job = attempts.fail(session, running, 1, failure)
        assert (job.state, job.pause_requested) == (State.FAILED, False)
        for ask in (repository.request_pause, repository.resume):
            with pytest.raises(IllegalTransition, match="is failed"):
                ask(session, OURS, running)


def test_only_what_rests_is_resumed_and_only_what_does_not_is_paused(sessions: Sessions, submit: Submit) -> None:
    job_id = submit().id
    with sessions.begin() as session:
        with pytest.raises(IllegalTransition, match="is queued and cannot become queued"):
            repository.resume(session, OURS, job_id)
        repository.request_pause(session, OURS, job_id)
        with pytest.raises(IllegalTransition, match="is paused and cannot become paused"):
            repository.request_pause(session, OURS, job_id)
