"""What `scalpel admin` works on: the database itself, by the settings of the server; no service needs to run."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from cli.exits import CommandError, Exit
from jobs import database
from jobs.access import audit
from jobs.access.quotas import NAMES, UNLIMITED, quotas_of, use_of
from jobs.access.secrets import MasterKeys, Rotation, rotate, with_local_keys
from jobs.access.tenants import find_tenant, list_tenants
from jobs.settings import Settings
from jobs.tables import ApiKey, Tenant

SCHEMA = {"tenants", "api_keys", "secrets", "audit"}


@dataclass(frozen=True)
class Operation:
    """One transaction of the operator's."""

    session: Session
    settings: Settings

    @property
    def master_keys(self) -> MasterKeys:
        return MasterKeys.of(self.settings)

    def note(self, tenant: Tenant, action: str, resource: str | None = None) -> None:
        """Into the tenant's audit."""
        audit.record(self.session, audit.operator_on(tenant.id), action, resource)


@contextmanager
def operation(data_dir: Path) -> Iterator[Operation]:
    """A transaction on the database that the settings name, committed at the end.

    Raises: CommandError: a setting is wrong, or the database is not there or not that of this version.
    """
    settings = with_local_keys(_settings(os.environ, data_dir))
    try:
        engine = database.engine(settings)
        try:
            if not set(inspect(engine).get_table_names()) >= SCHEMA:
                raise CommandError("the database holds no tables of this version; run `scalpel migrate` on it", Exit.REFUSED)
            with database.sessions(engine).begin() as session:
                yield Operation(session, settings)
        finally:
            engine.dispose()
    except SQLAlchemyError as error:
        cause = str(error).splitlines()[0]
        raise CommandError(f"the database cannot be used: {cause}; SCALPEL_DATABASE_URL names another") from error


def _settings(environment: Mapping[str, str], data_dir: Path) -> Settings:
    given = {**environment, "SCALPEL_DATA_DIR": str(data_dir.expanduser().absolute())}
    try:
        return Settings.from_mapping(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise CommandError(f"SCALPEL_{str(first['loc'][0]).upper()}: {first['msg']}", Exit.REFUSED) from error


def tenant_fields(tenant: Tenant) -> dict[str, Any]:
    return {
        "id": tenant.id,
        "name": tenant.name,
        "created_at": tenant.created_at,
        "disabled_at": tenant.disabled_at,
    }


def key_fields(key: ApiKey) -> dict[str, Any]:
    names = ("id", "name", "prefix", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")
    return {name: getattr(key, name) for name in names}


def audit_rows(session: Session, tenant: str | None, limit: int) -> list[dict[str, Any]]:
    """The last entries of a tenant, or of all, oldest first."""
    names = {found.id: found.name for found in list_tenants(session)}
    only = None if tenant is None else find_tenant(session, tenant).id
    kept = ("created_at", "action", "resource", "outcome", "key_id", "address")
    return [
        {"tenant": names[entry.tenant_id], **{name: getattr(entry, name) for name in kept}}
        for entry in audit.newest(session, limit, tenant_id=only)
    ]


def quota_rows(work: Operation, tenant: Tenant) -> list[dict[str, Any]]:
    """Each limit: how high, whose it is, and what is used of it."""
    limits, use = quotas_of(tenant, work.settings), use_of(work.session, tenant.id)
    return [
        {
            "quota": name,
            "limit": getattr(limits, name),
            "set_for": "all tenants" if getattr(tenant, f"max_{name}") is None else "this tenant",
            "used": getattr(use, name),
        }
        for name in NAMES
    ]


def parse_limits(changes: Sequence[str]) -> dict[str, int | None]:
    """`["running=2", "queued=none"]` -> `{"running": 2, "queued": UNLIMITED}`. Raises: CommandError."""
    limits: dict[str, int | None] = {}
    for change in changes:
        name, _, limit = change.partition("=")
        special = {"default": None, "none": UNLIMITED}
        if name not in NAMES or not (limit in special or (limit.isascii() and limit.isdecimal() and len(limit) < 16)):
            raise CommandError(
                f"{change} is no NAME=LIMIT with a NAME of {', '.join(NAMES)} and a LIMIT that is a number, none or default",
                Exit.REFUSED,
            )
        limits[name] = special[limit] if limit in special else int(limit)
    return limits


def rotate_all(work: Operation) -> Rotation:
    """Each tenant whose secret has a new key finds it in its audit."""
    done = rotate(work.session, work.master_keys)
    for tenant in list_tenants(work.session):
        if tenant.id in done.tenants:
            work.note(tenant, "secrets.rotate", done.newest)
    return done


def expiry(days: int | None, now: datetime) -> datetime | None:
    return None if days is None else now + timedelta(days=days)
