"""Requests that may arrive twice and must act once, by the key that their sender gives them.

A key is held in a transaction of its own, so that a second request sees it at once. The answer is written in the transaction
that makes the change: both are there or neither is, whenever the process dies. A holder that has been silent for too long
loses the key; should it wake up after all, it finds its row gone and its change is rolled back with the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, or_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from ulid import ULID

from jobs.database import Sessions
from jobs.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from jobs.scope import is_owned, owned
from jobs.tables import Idempotent

HOLD_S = 60.0  # far longer than any request takes


@dataclass(frozen=True)
class Answer:
    """What was answered, to be sent again."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True)
class Held:
    """The key is this request's own, until it is answered or let go."""

    id: str
    tenant_id: str
    key: str
    keep_hours: float


def hold(sessions: Sessions, tenant_id: str, key: str, digest: str, keep_hours: float) -> Held | Answer:
    """Take the key, or find what its first request was answered.

    Args: digest: of everything that makes the request what it is.
    Raises: IdempotencyKeyReused: it came with another request. IdempotencyKeyInFlight: the first one is still at work.
    """
    now = datetime.now(UTC)
    row = Idempotent(
        id=str(ULID()),
        tenant_id=tenant_id,
        key=key,
        digest=digest,
        held_until=now + timedelta(seconds=HOLD_S),
        expires_at=now + timedelta(hours=keep_hours),
    )
    try:
        with sessions.begin() as session:
            _forget_dead(session, tenant_id, key, now)
            session.add(row)
        return Held(row.id, tenant_id, key, keep_hours)
    except IntegrityError:  # somebody has it
        return _answer(sessions, tenant_id, key, digest)


def keep(session: Session, held: Held, answer: Answer) -> None:
    """Write the answer together with the change. Raises: IdempotencyKeyInFlight: the key was lost; roll the change back."""
    expires_at = datetime.now(UTC) + timedelta(hours=held.keep_hours)
    values = {"status": answer.status, "headers": dict(answer.headers), "body": answer.body, "expires_at": expires_at}
    statement = update(Idempotent).where(*_still(held)).values(values).returning(Idempotent.id)
    if session.scalars(statement.execution_options(synchronize_session=False)).one_or_none() is None:
        raise IdempotencyKeyInFlight(held.key)


def let_go(sessions: Sessions, held: Held) -> None:
    """Free the key of a request that was refused, or failed; of one that was answered, nothing changes."""
    with sessions.begin() as session:
        session.execute(delete(Idempotent).where(*_still(held)))


def forget_expired(session: Session) -> None:
    """Remove what no tenant can ask for any more."""
    session.execute(delete(Idempotent).where(Idempotent.expires_at <= datetime.now(UTC)))


def _still(held: Held) -> tuple[ColumnElement[bool], ...]:
    return is_owned(Idempotent, held.tenant_id), Idempotent.id == held.id, Idempotent.status.is_(None)


def _forget_dead(session: Session, tenant_id: str, key: str, now: datetime) -> None:
    was_left = and_(Idempotent.status.is_(None), Idempotent.held_until <= now)
    is_dead = or_(Idempotent.expires_at <= now, was_left)
    session.execute(delete(Idempotent).where(is_owned(Idempotent, tenant_id), Idempotent.key == key, is_dead))


def _answer(sessions: Sessions, tenant_id: str, key: str, digest: str) -> Answer:
    with sessions() as session:
        row = session.scalars(owned(Idempotent, tenant_id).where(Idempotent.key == key)).one_or_none()
    if row is not None and row.digest != digest:
        raise IdempotencyKeyReused(key)
    if row is None or row.status is None:  # none: it was let go a moment ago
        raise IdempotencyKeyInFlight(key)
    assert row.headers is not None and row.body is not None, "written with the status"
    return Answer(row.status, row.headers, row.body)
