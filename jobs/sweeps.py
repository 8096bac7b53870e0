"""Sweeps: written with their jobs, found, forgotten; functions on a session, the caller commits."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session
from ulid import ULID

from jobs import transitions
from jobs.errors import SweepNotFound
from jobs.pages import DEFAULT_PAGE, Page, read_page
from jobs.scope import is_owned, owned, owned_row
from jobs.sweep_request import LeftOut, SweepRequest
from jobs.sweep_table import Sweep
from jobs.tables import Job


def begin(session: Session, tenant_id: str, request: SweepRequest, left_out: Sequence[LeftOut]) -> Sweep:
    """Write the sweep; its jobs follow in the same transaction."""
    now = transitions.now()
    sweep = Sweep(
        id=str(ULID.from_datetime(now)),
        tenant_id=tenant_id,
        model=request.model,
        request=request.model_dump(mode="json", exclude_unset=True),
        left_out={"recipes": [one.model_dump(mode="json") for one in left_out]},
        created_at=now,
    )
    session.add(sweep)
    session.flush()
    return sweep


def add_point(session: Session, sweep: Sweep, job: Job, position: int) -> None:
    job.sweep_id, job.sweep_position = sweep.id, position
    session.flush()


def get(session: Session, tenant_id: str, sweep_id: str) -> Sweep:
    """Raises: SweepNotFound: also where it is another tenant's."""
    sweep = owned_row(session, Sweep, tenant_id, sweep_id)
    if sweep is None:
        raise SweepNotFound(sweep_id)
    return sweep


def list_sweeps(session: Session, tenant_id: str, cursor: str | None = None, limit: int = DEFAULT_PAGE) -> Page[Sweep]:
    """The newest first. Raises: InvalidCursor."""
    return read_page(session, owned(Sweep, tenant_id), (Sweep.created_at, Sweep.id), cursor, limit, descending=True)


def jobs_of(session: Session, sweep: Sweep) -> Sequence[Job]:
    """Its points that are still there, in the order of the request."""
    query = owned(Job, sweep.tenant_id).where(Job.sweep_id == sweep.id)
    return session.scalars(query.order_by(Job.sweep_position, Job.id)).all()


def forget(session: Session, tenant_id: str, sweep_id: str) -> None:
    """Remove the sweep; its jobs stay as they are. Raises: SweepNotFound."""
    found: Any = session.execute(
        delete(Sweep).where(is_owned(Sweep, tenant_id), Sweep.id == get(session, tenant_id, sweep_id).id)
    )
    if found.rowcount == 0:
        raise SweepNotFound(sweep_id)
