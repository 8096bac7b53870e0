"""How long a job may run, and how long it has: only what workers spent on it counts."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from compression.errors import InvalidOptions
from jobs import attempts, repository
from jobs.database import Sessions
from jobs.failure import Failure, disk_full
from jobs.limits import Limits, run_limit_s
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Job
from jobs.view import job_view
from tests.jobs.conftest import Submit


@pytest.mark.parametrize(
    ("asked", "default", "most", "limit"),
    [
        (None, None, None, None),
        (60.0, None, None, 60.0),
        (60.0, 30.0, 90.0, 60.0),
        (None, 30.0, 90.0, 30.0),
        (None, None, 90.0, 90.0),
        (None, 120.0, 90.0, 90.0),
    ],
    ids=["none at all", "asked", "asked beyond the default", "default", "maximum", "maximum below the default"],
)
def test_the_limit_is_what_was_asked_else_the_server_s(
    asked: float | None, default: float | None, most: float | None, limit: float | None
) -> None:
    assert run_limit_s(Limits(run_s=asked), Settings(default_run_s=default, max_run_s=most)) == limit


def test_more_than_the_server_allows_is_refused_with_what_it_allows() -> None:
    with pytest.raises(InvalidOptions) as refusal:
        run_limit_s(Limits(run_s=3601), Settings(max_run_s=3600))
    assert (refusal.value.field, refusal.value.allowed) == ("limits.run_s", "<= 3600")


@pytest.mark.parametrize("run_s", [0, -1, float("inf"), float("nan")])
def test_a_limit_is_a_positive_number(run_s: float) -> None:
    with pytest.raises(ValidationError):
        Limits(run_s=run_s)


def test_only_what_workers_spent_counts_and_attempts_add_up(sessions: Sessions, submit: Submit) -> None:
    job_id = submit().id
    _age(sessions, job_id, created_at=3600)
    assert _running_s(sessions, job_id) == 0.0
    for spent_s, total_s in ((10.0, 10.0), (20.0, 30.0)):
        attempt = _claim(sessions)
        _age(sessions, job_id, claimed_at=spent_s)
        assert _running_s(sessions, job_id) == pytest.approx(total_s, abs=5.0), "while it is running"
        with sessions.begin() as session:
            attempts.retry(session, job_id, attempt, "because")
        assert _running_s(sessions, job_id) == pytest.approx(total_s, abs=5.0), "and after"


def test_a_lost_worker_has_spent_no_more_than_its_lease(sessions: Sessions, submit: Submit) -> None:
    job_id = submit().id
    _claim(sessions)
    _age(sessions, job_id, claimed_at=3600, lease_expires_at=3000)
    assert _running_s(sessions, job_id) == pytest.approx(600.0, abs=5.0)
    with sessions.begin() as session:
        attempts.requeue_expired(session, datetime.now(UTC))
    assert _running_s(sessions, job_id) == pytest.approx(600.0, abs=5.0)


def test_a_fault_of_the_host_is_typed_only_where_no_attempt_is_left(sessions: Sessions, submit: Submit) -> None:
    job_id = submit(max_attempts=2).id
    fault = disk_full("/scratch needs 2 bytes and has 1").model_copy(update={"peak_memory_bytes": 7})
    for state in (State.QUEUED, State.FAILED):
        attempt = _claim(sessions)
        with sessions.begin() as session:
            job = attempts.retry(session, job_id, attempt, "the disk is full", failure=fault)
            assert job.state is state
    assert job.error is not None
    failure = Failure.model_validate(job.error)
    assert (failure.type, failure.peak_memory_bytes) == ("disk-full", 7)
    assert failure.detail == "Attempt 2 of 2 was the last. /scratch needs 2 bytes and has 1"


def _claim(sessions: Sessions) -> int:
    with sessions.begin() as session:
        job = attempts.claim(session, "worker", 30.0)
        assert job is not None
        return job.attempt


def _age(sessions: Sessions, job_id: str, **ages_s: float) -> None:
    """Set back the times of the job's row, as if it had all happened so many seconds ago."""
    with sessions.begin() as session:
        job = session.get_one(Job, job_id)
        for column, age_s in ages_s.items():
            setattr(job, column, datetime.now(UTC) - timedelta(seconds=age_s))


def _running_s(sessions: Sessions, job_id: str) -> float:
    with sessions() as session:
        return job_view(repository.find(session, job_id)).running_s
