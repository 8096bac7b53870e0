"""Browsers that are signed in: a session is opened with a key, stands for it, and ends with it."""

import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from ulid import ULID

from jobs.access.browser_table import BrowserSession
from jobs.access.keys import Caller, authenticate, caller_of_key, digest
from jobs.errors import Unauthenticated
from jobs.tables import ApiKey, Tenant

SESSION_LIFE = timedelta(days=7)
LINK_LIFE = timedelta(minutes=15)


def open_session(session: Session, key: str) -> tuple[Caller, str]:
    """Sign a browser in. Returns: who it is, and the session's token, which is not kept. Raises: Unauthenticated."""
    caller = authenticate(session, key)
    return caller, _add(session, caller, SESSION_LIFE, is_link=False)


def make_link(session: Session, key: str) -> str:
    """A token that opens one session within `LINK_LIFE`, so that the key need not be typed. Raises: Unauthenticated."""
    return _add(session, authenticate(session, key), LINK_LIFE, is_link=True)


def use_link(session: Session, token: str) -> tuple[Caller, str]:
    """Sign a browser in with what `make_link` made. Returns: as `open_session`.

    Raises: Unauthenticated: it is unknown, too old or used.
    """
    caller = _caller(session, token, is_link=True)
    if not _remove(session, token):  # of two that come at once, one removes it
        raise Unauthenticated("the link was used")
    return caller, _add(session, caller, SESSION_LIFE, is_link=False)


def session_caller(session: Session, token: str) -> Caller:
    """Whose browser this is.

    Raises: Unauthenticated: the session is unknown, over, or its key opens nothing any more.
    """
    return _caller(session, token, is_link=False)


def close_session(session: Session, token: str) -> Caller | None:
    """Sign the browser out. Returns: who it was; None where the session was over already."""
    try:
        return session_caller(session, token)
    except Unauthenticated:
        return None
    finally:
        _remove(session, token)


def _add(session: Session, caller: Caller, life: timedelta, *, is_link: bool) -> str:
    assert caller.key_id is not None, "a key was shown"
    now, token = datetime.now(UTC), secrets.token_urlsafe(32)
    session.execute(delete(BrowserSession).where(BrowserSession.expires_at <= now))
    session.add(
        BrowserSession(
            id=str(ULID.from_datetime(now)),
            tenant_id=caller.tenant_id,
            key_id=caller.key_id,
            token_sha256=digest(token),
            is_link=is_link,
            created_at=now,
            expires_at=now + life,
        )
    )
    session.flush()
    return token


def _caller(session: Session, token: str, *, is_link: bool) -> Caller:
    query = (
        select(ApiKey, Tenant.disabled_at)
        .join(BrowserSession, BrowserSession.key_id == ApiKey.id)
        .join(Tenant, Tenant.id == ApiKey.tenant_id)
        .where(
            BrowserSession.token_sha256 == digest(token),
            BrowserSession.is_link == is_link,
            BrowserSession.expires_at > datetime.now(UTC),
        )
    )
    found = session.execute(query).one_or_none()
    if found is None:
        raise Unauthenticated("the link was used, or is too old" if is_link else "the session is over")
    return caller_of_key(session, *found)


def _remove(session: Session, token: str) -> bool:
    gone = delete(BrowserSession).where(BrowserSession.token_sha256 == digest(token)).returning(BrowserSession.id)
    return session.scalar(gone) is not None
