"""Who did what and when: every write of a request and of `scalpel admin`, in the transaction of the change itself.

What is refused for want of a scope is noted too. Reads are not, nor are a worker's own writes, which are events.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session
from ulid import ULID

from jobs.access.keys import SCOPES, Caller
from jobs.pages import DEFAULT_PAGE, Page, read_page
from jobs.scope import owned
from jobs.tables import AuditEntry

OPERATOR = "operator"

Outcome = Literal["done", "forbidden"]


def operator_on(tenant_id: str) -> Caller:
    """Whoever runs `scalpel admin` on the server, at work on a tenant."""
    return Caller(tenant_id, frozenset(SCOPES), address=OPERATOR)


def record(session: Session, caller: Caller, action: str, resource: str | None = None, outcome: Outcome = "done") -> None:
    """Note what `caller` does. Args: action: `noun.verb`. resource: the id of what it is done to."""
    now = datetime.now(UTC)
    session.add(
        AuditEntry(
            id=str(ULID.from_datetime(now)),
            tenant_id=caller.tenant_id,
            key_id=caller.key_id,
            address=caller.address,
            action=action[:255],
            resource=resource and resource[:255],
            outcome=outcome,
            created_at=now,
        )
    )
    session.flush()


def list_entries(
    session: Session, tenant_id: str, *, cursor: str | None = None, limit: int = DEFAULT_PAGE
) -> Page[AuditEntry]:
    """One page of a tenant's entries, newest first. Raises: InvalidCursor."""
    newest_first = (AuditEntry.created_at, AuditEntry.id)
    return read_page(session, owned(AuditEntry, tenant_id), newest_first, cursor, limit, descending=True)


def newest(session: Session, limit: int, tenant_id: str | None = None) -> Sequence[AuditEntry]:
    """The last entries of a tenant, or of all, oldest first: for the operator."""
    query = select(AuditEntry) if tenant_id is None else owned(AuditEntry, tenant_id)
    query = query.order_by(AuditEntry.created_at.desc(), AuditEntry.id.desc()).limit(limit)
    return session.scalars(query).all()[::-1]
