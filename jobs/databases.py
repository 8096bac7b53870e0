"""Model databases as the service knows them: written as jobs succeed, from their reports; functions on a session."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session
from ulid import ULID

from compression.goals.result import DatabaseUse
from compression.report import Report
from jobs import transitions
from jobs.database_table import ModelDatabase
from jobs.errors import DatabaseNotFound
from jobs.pages import DEFAULT_PAGE, Page, read_page
from jobs.scope import owned, owned_row
from jobs.tables import Job


@dataclass(frozen=True)
class Chosen:
    """The database that a job chose from. Args: kind: levels, structures."""

    kind: str
    use: DatabaseUse


def chosen_from(report: Report | None) -> Chosen | None:
    """What a report says of it; None where nothing was chosen."""
    if report is None:
        return None
    if report.structure is not None:
        return Chosen("structures", report.structure.database)
    return None if report.goal is None else Chosen("levels", report.goal.database)


def record(session: Session, job: Job, chosen: Chosen) -> None:
    """Note that a job chose from a database. Where a host had to build anew what another one has, it stays one."""
    now, use = transitions.now(), chosen.use
    found = session.scalars(owned(ModelDatabase, job.tenant_id).where(ModelDatabase.key == use.key)).one_or_none()
    if found is None:
        found = ModelDatabase(
            id=str(ULID.from_datetime(now)),
            tenant_id=job.tenant_id,
            key=use.key,
            kind=chosen.kind,
            model=job.model,
            levels=use.levels,
            size_bytes=use.size_bytes,
            seconds=use.seconds,
            created_at=now,
            used_at=now,
        )
        session.add(found)
        session.flush()
    found.used_at = now
    job.database_id = found.id


def get(session: Session, tenant_id: str, database_id: str) -> ModelDatabase:
    """Raises: DatabaseNotFound: also where it is another tenant's."""
    found = owned_row(session, ModelDatabase, tenant_id, database_id)
    if found is None:
        raise DatabaseNotFound(database_id)
    return found


def list_databases(
    session: Session, tenant_id: str, cursor: str | None = None, limit: int = DEFAULT_PAGE
) -> Page[ModelDatabase]:
    """The newest first. Raises: InvalidCursor."""
    key = (ModelDatabase.created_at, ModelDatabase.id)
    return read_page(session, owned(ModelDatabase, tenant_id), key, cursor, limit, descending=True)


def jobs_of(session: Session, database: ModelDatabase) -> Sequence[str]:
    """Ids of the jobs that chose from it and are still there, the oldest first."""
    query = owned(Job, database.tenant_id).where(Job.database_id == database.id)
    return [job.id for job in session.scalars(query.order_by(Job.id))]
