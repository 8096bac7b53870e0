from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from jobs import idempotency
from jobs.access.tables import LOCAL_TENANT_ID as OURS
from jobs.database import Sessions
from jobs.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from jobs.idempotency import Answer, Held, forget_expired, hold, keep, let_go
from jobs.tables import Idempotent

ANSWER = Answer(202, {"Location": "/x"}, '{"a": 1}')


def take(sessions: Sessions, key: str = "key", digest: str = "digest", keep_hours: float = 1.0) -> Held:
    held = hold(sessions, OURS, key, digest, keep_hours)
    assert isinstance(held, Held)
    return held


def answered(sessions: Sessions, **fields: float) -> Held:
    held = take(sessions, **fields)  # type: ignore[arg-type]
    with sessions.begin() as session:
        keep(session, held, ANSWER)
    return held


def test_an_answered_request_is_answered_again(sessions: Sessions) -> None:
    held = answered(sessions)
    let_go(sessions, held)  # changes nothing any more
    assert hold(sessions, OURS, "key", "digest", 1.0) == ANSWER
    with pytest.raises(IdempotencyKeyReused):
        hold(sessions, OURS, "key", "another digest", 1.0)


def test_a_key_that_was_let_go_is_free(sessions: Sessions) -> None:
    held = take(sessions)
    with pytest.raises(IdempotencyKeyInFlight):
        take(sessions)
    let_go(sessions, held)
    take(sessions)


def test_an_answer_whose_transaction_fails_was_never_given(sessions: Sessions) -> None:
    held = take(sessions)
    with pytest.raises(ZeroDivisionError), sessions.begin() as session:
        keep(session, held, ANSWER)
        raise ZeroDivisionError
    with pytest.raises(IdempotencyKeyInFlight):
        take(sessions)


def test_a_holder_that_died_is_followed_and_cannot_answer_any_more(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "HOLD_S", -1.0)
    dead = take(sessions)
    follower = take(sessions)
    with pytest.raises(IdempotencyKeyInFlight), sessions.begin() as session:
        keep(session, dead, ANSWER)
    let_go(sessions, dead)
    with sessions.begin() as session:
        keep(session, follower, ANSWER)


def test_expired_answers_are_forgotten_and_no_others(sessions: Sessions) -> None:
    answered(sessions)
    with sessions.begin() as session:
        session.execute(update(Idempotent).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    answered(sessions, key="another")  # type: ignore[arg-type]
    with sessions.begin() as session:
        forget_expired(session)
        assert session.scalars(select(Idempotent.key)).all() == ["another"]
    take(sessions)


def test_an_expired_key_is_free_before_it_is_swept(sessions: Sessions) -> None:
    answered(sessions, keep_hours=-1.0)
    take(sessions)
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Idempotent)) == 1
