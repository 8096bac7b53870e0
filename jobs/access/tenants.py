"""Tenants, as the operator makes and changes them; functions on a session, the caller commits."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session
from ulid import ULID

from compression.errors import InvalidOptions
from jobs.errors import TenantExists, TenantNotFound
from jobs.tables import Tenant

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def create_tenant(session: Session, name: str) -> Tenant:
    """Raises: InvalidOptions, TenantExists."""
    _check_name(session, name)
    tenant = Tenant(id=str(ULID()), name=name, created_at=datetime.now(UTC))
    session.add(tenant)
    session.flush()
    return tenant


def rename_tenant(session: Session, name: str, new_name: str) -> Tenant:
    """Raises: TenantNotFound, InvalidOptions, TenantExists."""
    tenant = find_tenant(session, name)
    if new_name != name:
        _check_name(session, new_name)
    tenant.name = new_name
    session.flush()
    return tenant


def set_disabled(session: Session, name: str, *, is_disabled: bool) -> Tenant:
    """A disabled tenant's keys open nothing; its queued and running jobs go on. Raises: TenantNotFound."""
    tenant = find_tenant(session, name)
    tenant.disabled_at = (tenant.disabled_at or datetime.now(UTC)) if is_disabled else None
    session.flush()
    return tenant


def find_tenant(session: Session, name: str) -> Tenant:
    """By name or id. Raises: TenantNotFound."""
    found = session.scalars(select(Tenant).where(Tenant.name == name)).one_or_none() or session.get(Tenant, name)
    if found is None:
        raise TenantNotFound(name)
    return found


def list_tenants(session: Session) -> Sequence[Tenant]:
    """All of them, by name."""
    return session.scalars(select(Tenant).order_by(Tenant.name)).all()


def _check_name(session: Session, name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidOptions("name", f"{name!r} is no name of a tenant", "1 to 63 of a-z, 0-9 and -, not beginning with -")
    if session.scalars(select(Tenant.id).where(Tenant.name == name)).first() is not None:
        raise TenantExists(name)
