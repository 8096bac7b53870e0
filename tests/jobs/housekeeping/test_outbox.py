import pytest
from sqlalchemy import func, select

from jobs import attempts
from jobs.database import Sessions
from jobs.housekeeping.outbox import relay
from jobs.needs import Need
from jobs.tables import Ring
from tests.jobs.conftest import Submit


def waiting(sessions: Sessions) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(Ring)) or 0


def test_each_ring_is_published_once_and_then_gone(sessions: Sessions, submit: Submit) -> None:
    submit()
    submit()
    rung: list[int] = []
    for expected in (2, 0):
        with sessions.begin() as session:
            assert relay(session, lambda _: rung.append(1)) == expected
    assert (len(rung), waiting(sessions)) == (2, 0)


def test_a_broker_that_is_away_loses_no_ring(sessions: Sessions, submit: Submit) -> None:
    def fails(_: Need) -> None:
        raise ConnectionError

    submit()
    with pytest.raises(ConnectionError), sessions.begin() as session:
        relay(session, fails)
    assert waiting(sessions) == 1


def test_a_crash_after_publishing_rings_again(sessions: Sessions, submit: Submit) -> None:
    submit()
    rung: list[int] = []
    with sessions() as session:
        relay(session, lambda _: rung.append(1))
        session.rollback()
    with sessions.begin() as session:
        relay(session, lambda _: rung.append(1))
    assert len(rung) == 2


def test_the_ring_of_a_retry_waits_until_it_is_due(sessions: Sessions, submit: Submit) -> None:
    submit()
    with sessions.begin() as session:
        relay(session, lambda _: None)
        job = attempts.claim(session, "worker", 30.0)
        assert job is not None
        attempts.retry(session, job.id, 1, "because", delay_s=60.0)
        assert relay(session, lambda _: None) == 0
    assert waiting(sessions) == 1
