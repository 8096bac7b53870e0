"""What one tenant may have at once and in all: its own limits, else the server's; checked where a job is submitted.

The check and the job are one transaction that holds the tenant's row, so two requests cannot both take the last place.
How many jobs run is decided where they are claimed, by `running_limit`.
"""

from collections.abc import Callable, Mapping

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, func, update
from sqlalchemy.orm import Session

from jobs.access import usage
from jobs.errors import QuotaExceeded
from jobs.settings import Settings
from jobs.states import State
from jobs.tables import Tenant

UNLIMITED = 2**53 - 1  # as a tenant's own limit; the largest whole number that every JSON reader has
Limit = int | None


class Quotas(BaseModel):
    """The limits that hold for a tenant; null: none."""

    model_config = ConfigDict(frozen=True)

    running: Limit = Field(None, ge=0, description="Jobs that run at once; the others wait.")
    queued: Limit = Field(None, ge=0, description="Jobs that wait or are paused.")
    stored_bytes: Limit = Field(
        None, ge=0, description="Bytes kept: artifacts, solutions, uploads, running jobs' checkpoints."
    )
    device_s: Limit = Field(None, ge=0, description="Seconds that jobs have held devices in the last 30 days.")


NAMES = tuple(Quotas.model_fields)
CURES = {
    "running": "wait until one has ended",  # nobody is refused for it
    "queued": "wait until some have started, or cancel some",
    "stored_bytes": "delete what is no longer needed",
    "device_s": "wait until earlier work is more than 30 days old",
}


class Use(BaseModel):
    """What a tenant has and has used, by the names of the limits."""

    model_config = ConfigDict(frozen=True)

    running: int
    queued: int
    stored_bytes: int
    device_s: float = Field(description="Of attempts that have ended in the last 30 days.")


MEASURES: Mapping[str, Callable[[Session, str], float]] = {
    "running": lambda session, tenant_id: usage.count_jobs(session, tenant_id, State.RUNNING),
    "queued": lambda session, tenant_id: usage.count_jobs(session, tenant_id, State.QUEUED, State.PAUSED),
    "stored_bytes": usage.stored_bytes,
    "device_s": usage.device_seconds,
}


def quotas_of(tenant: Tenant, settings: Settings) -> Quotas:
    """The limits that hold for a tenant."""
    own = {name: getattr(tenant, f"max_{name}") for name in NAMES}
    server = {name: getattr(settings, f"quota_{name}") for name in NAMES}
    return Quotas(**{name: _limit(server[name] if own[name] is None else own[name]) for name in NAMES})


def use_of(session: Session, tenant_id: str) -> Use:
    return Use.model_validate({name: measure(session, tenant_id) for name, measure in MEASURES.items()})


def check_submit(session: Session, tenant_id: str, settings: Settings) -> None:
    """Refuse a job that the tenant has no room for; to be called in the transaction that writes the job, before it.

    Raises: QuotaExceeded.
    """
    quotas = quotas_of(session.get_one(Tenant, tenant_id), settings)
    limits = {name: limit for name in ("queued", "stored_bytes", "device_s") if (limit := getattr(quotas, name)) is not None}
    if not limits:
        return
    session.execute(update(Tenant).where(Tenant.id == tenant_id).values(name=Tenant.name))  # holds the row until the commit
    for name, limit in limits.items():
        used = MEASURES[name](session, tenant_id)
        if used >= limit:
            raise QuotaExceeded(name, limit, used, CURES[name])


def check_room(session: Session, tenant_id: str, settings: Settings, more_bytes: int) -> None:
    """Refuse bytes that the tenant has no room for; to be called in the transaction that writes their row, before it.

    Raises: QuotaExceeded.
    """
    limit = quotas_of(session.get_one(Tenant, tenant_id), settings).stored_bytes
    if limit is None:
        return
    session.execute(update(Tenant).where(Tenant.id == tenant_id).values(name=Tenant.name))  # holds the row until the commit
    used = usage.stored_bytes(session, tenant_id)
    if used + more_bytes > limit:
        raise QuotaExceeded("stored_bytes", limit, used, f"{more_bytes} more have no room: {CURES['stored_bytes']}")


def set_quotas(tenant: Tenant, changes: Mapping[str, Limit]) -> None:
    """Change a tenant's own limits. Args: changes: by name; None: the server's limit again; UNLIMITED: none."""
    for name, limit in changes.items():
        assert name in NAMES
        setattr(tenant, f"max_{name}", limit)


def running_limit(server_limit: Limit) -> ColumnElement[int]:
    """How many jobs of a `Tenant` may run at once. Args: server_limit: `Settings.quota_running`."""
    return func.coalesce(Tenant.max_running, UNLIMITED if server_limit is None else server_limit)


def _limit(kept: Limit) -> Limit:
    return None if kept is None or kept >= UNLIMITED else kept
