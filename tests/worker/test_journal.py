"""Writes whose commit happened although the connection broke."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from jobs import attempts
from jobs.database import Sessions
from jobs.errors import StaleAttempt
from jobs.states import State
from tests.worker.conftest import Submit, events, read_job
from worker.journal import Journal, is_outage

NOTE = {"level": "info", "message": "once", "share": 0.1}

FailAt = Callable[[str], None]


def nothing() -> None:
    pass


@pytest.fixture
def job_id(sessions: Sessions, submit: Submit) -> str:
    job_id = submit()
    with sessions.begin() as session:
        attempts.claim(session, "worker", 30.0)
    return job_id


@pytest.fixture
def journal(sessions: Sessions, job_id: str) -> Journal:
    return Journal(sessions, job_id, 1, last_seq=2, patience_s=5.0)


@pytest.fixture
def break_once(sessions: Sessions) -> FailAt:
    """Has the next transaction's connection break, `before_commit` or `after_commit`."""

    def break_once(moment: str) -> None:
        def broken(_: Session) -> None:
            raise OperationalError("COMMIT", {}, ConnectionError("server closed the connection unexpectedly"))

        event.listen(sessions, moment, broken, once=True)

    return break_once


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_an_event_is_there_once(sessions: Sessions, job_id: str, journal: Journal, break_once: FailAt, moment: str) -> None:
    break_once(moment)
    journal.record("note", NOTE, nothing)
    journal.record("note", NOTE, nothing)  # the same words again are another event
    assert [(told.seq, told.data) for told in events(sessions, job_id) if told.type == "note"] == [(3, NOTE), (4, NOTE)]


@pytest.mark.parametrize("moment", ["before_commit", "after_commit"])
def test_an_end_is_written_once(sessions: Sessions, job_id: str, journal: Journal, break_once: FailAt, moment: str) -> None:
    break_once(moment)
    assert journal.end(attempts.succeed, ()).state is State.SUCCEEDED
    assert [told.data.get("state") for told in events(sessions, job_id)] == ["queued", "running", "succeeded"]


def test_another_s_job_is_not_taken_for_ours(sessions: Sessions, job_id: str, journal: Journal, break_once: FailAt) -> None:
    with sessions.begin() as session:
        attempts.requeue_expired(session, datetime.now(UTC) + timedelta(hours=1))
        attempts.claim(session, "another worker", 30.0)
    break_once("before_commit")
    with pytest.raises(StaleAttempt):
        journal.end(attempts.succeed, ())
    assert read_job(sessions, job_id).owner == "another worker"


def test_an_attempt_that_must_stop_does_not_wait_for_the_database(journal: Journal, break_once: FailAt) -> None:
    class Stop(Exception):
        pass

    def check() -> None:
        raise Stop

    break_once("before_commit")
    with pytest.raises(Stop):
        journal.record("note", NOTE, check)


def test_patience_ends_with_the_lease(sessions: Sessions, job_id: str) -> None:
    def broken(_: Session) -> None:
        raise OperationalError("COMMIT", {}, ConnectionError())

    event.listen(sessions, "before_commit", broken)
    with pytest.raises(OperationalError):
        Journal(sessions, job_id, 1, last_seq=2, patience_s=0.2).record("note", NOTE, nothing)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("SELECT 1", {}, Exception()), True),
        (ProgrammingError("SELEKT 1", {}, Exception()), False),
        (ProgrammingError("SELECT 1", {}, Exception(), connection_invalidated=True), True),
    ],
    ids=["away", "bug", "broken-connection"],
)
def test_a_bug_is_no_outage(error: Any, expected: bool) -> None:
    assert is_outage(error) is expected
