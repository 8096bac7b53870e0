"""API keys: made, shown once, kept as a hash, and turned into a caller.

A key is `scalpel_` and 43 random characters (256 bits), so a fast hash is enough: there is nothing to guess.
"""

import hashlib
import os
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from ulid import ULID

from jobs.access.tables import LOCAL_TENANT_ID
from jobs.errors import Forbidden, KeyNotFound, QuotaExceeded, Unauthenticated
from jobs.pages import DEFAULT_PAGE, Page, read_page
from jobs.scope import is_owned, owned, owned_row
from jobs.tables import ApiKey, Tenant

Scope = Literal["read", "write", "admin"]
"""read: see what the tenant has. write: submit, change and delete. admin: also the tenant's keys and secrets."""

SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "scalpel_"
SHOWN = len(PREFIX) + 6  # characters of a key that are kept, to know it again
MAX_KEYS = 200  # of a tenant that are not revoked
USED_RESOLUTION = timedelta(minutes=1)  # `last_used_at` is no write for every request


@dataclass(frozen=True)
class Caller:
    """Who a request comes from, and what it may do.

    Args:
        key_id: None where the service runs without authentication.
        address: where the request came from, as far as is known.
    """

    tenant_id: str
    scopes: frozenset[Scope]
    key_id: str | None = None
    address: str | None = None


LOCAL_CALLER = Caller(LOCAL_TENANT_ID, frozenset(SCOPES))


def create_key(
    session: Session, tenant_id: str, name: str, scopes: Collection[Scope], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Returns: the row and the key, which cannot be had again."""
    token = PREFIX + secrets.token_urlsafe(32)
    row = ApiKey(
        id=str(ULID()),
        tenant_id=tenant_id,
        name=name,
        prefix=token[:SHOWN],
        sha256=digest(token),
        scopes=[scope for scope in SCOPES if scope in scopes],
        created_at=datetime.now(UTC),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row, token


def list_keys(session: Session, tenant_id: str, *, cursor: str | None = None, limit: int = DEFAULT_PAGE) -> Page[ApiKey]:
    """One page of the tenant's keys, newest first, revoked ones too. Raises: InvalidCursor."""
    newest_first = (ApiKey.created_at, ApiKey.id)
    return read_page(session, owned(ApiKey, tenant_id), newest_first, cursor, limit, descending=True)


def all_keys(session: Session, tenant_id: str) -> Sequence[ApiKey]:
    """For the operator: every key of a tenant, newest first."""
    return session.scalars(owned(ApiKey, tenant_id).order_by(ApiKey.created_at.desc(), ApiKey.id.desc())).all()


def revoke_key(session: Session, tenant_id: str, key_id: str) -> ApiKey:
    """The key opens nothing from now on; doing it again changes nothing. Raises: KeyNotFound."""
    row = owned_row(session, ApiKey, tenant_id, key_id)
    if row is None:
        raise KeyNotFound(key_id)
    row.revoked_at = row.revoked_at or datetime.now(UTC)
    session.flush()
    return row


def grant_key(
    session: Session, caller: Caller, name: str, scopes: Collection[Scope], expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """A key for the caller's tenant that can do no more than the caller.

    Raises: Forbidden: a scope is not the caller's. QuotaExceeded: the tenant has very many keys.
    """
    for scope in SCOPES:
        if scope in scopes and scope not in caller.scopes:
            raise Forbidden(scope)
    live = select(func.count()).where(is_owned(ApiKey, caller.tenant_id), ApiKey.revoked_at.is_(None))
    if (count := session.scalar(live) or 0) >= MAX_KEYS:
        raise QuotaExceeded("keys", MAX_KEYS, count, "revoke those that nobody uses")
    return create_key(session, caller.tenant_id, name, scopes, expires_at)


def authenticate(session: Session, token: str) -> Caller:
    """Find the caller behind a key. Raises: Unauthenticated: unknown, revoked, expired, or its tenant is disabled."""
    query = (
        select(ApiKey, Tenant.disabled_at).join(Tenant, Tenant.id == ApiKey.tenant_id).where(ApiKey.sha256 == digest(token))
    )
    found = session.execute(query).one_or_none()
    if found is None:
        raise Unauthenticated("the key is unknown")
    return caller_of_key(session, *found)


def caller_of_key(session: Session, key: ApiKey, disabled_at: datetime | None) -> Caller:
    """The caller that a key stands for. Args: disabled_at: of its tenant.

    Raises: Unauthenticated: it opens nothing any more.
    """
    now = datetime.now(UTC)
    if key.revoked_at is not None or disabled_at is not None:
        raise Unauthenticated("the key was revoked")
    if key.expires_at is not None and key.expires_at <= now:
        raise Unauthenticated(f"the key expired at {key.expires_at:%Y-%m-%d %H:%M} UTC")
    if key.last_used_at is None or key.last_used_at < now - USED_RESOLUTION:
        session.execute(update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=now))
    return Caller(key.tenant_id, frozenset(scope for scope in SCOPES if scope in key.scopes), key.id)


def local_key(session: Session, file: Path) -> str:
    """The key that this machine's own user works with, kept in a file that only that user can read; made where it is missing.

    Returns: the key.
    """
    try:
        token = file.read_text(encoding="ascii").strip()
        authenticate(session, token)
        return token
    except (FileNotFoundError, UnicodeDecodeError, Unauthenticated):
        _, token = create_key(session, LOCAL_TENANT_ID, "local", SCOPES)
        partial = file.with_name(f".{file.name}.{os.getpid()}")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(token + "\n")
        partial.replace(file)
        return token


def digest(token: str) -> str:
    """What is kept of a token. It holds 256 random bits, so nobody finds it from this."""
    return hashlib.sha256(token.encode()).hexdigest()
