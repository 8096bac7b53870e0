"""Finding jobs by their model or a label, through rows of their own in the order of a list (jobs/facet_table.py).

A page of such jobs is then one stretch of an index, however many jobs there are and however few of them fit.
"""

from typing import TypeVar

from sqlalchemy import Select, delete
from sqlalchemy.orm import Session

from jobs.facet_table import MAX_VALUE
from jobs.tables import Facet, Job

Row = TypeVar("Row")

MODEL = ":model"  # no label can have this name


def add_facets(session: Session, job: Job) -> None:
    """Of a new job; the caller commits."""
    for name, value in {MODEL: job.model[:MAX_VALUE], **job.labels}.items():
        session.add(Facet(id=job.id, name=name, value=value, tenant_id=job.tenant_id, created_at=job.created_at))


def renew_facets(session: Session, job: Job) -> None:
    """Of a job whose labels have changed; the caller commits."""
    session.execute(delete(Facet).where(Facet.id == job.id))
    add_facets(session, job)


def found_by(query: Select[Row], tenant_id: str, name: str, value: str) -> Select[Row]:
    """Those jobs of `query`, a query of jobs, that have the facet; to be ordered by `Facet.created_at` and `Facet.id`."""
    has_facet = (Facet.tenant_id == tenant_id, Facet.name == name, Facet.value == value[:MAX_VALUE])
    return query.where(Facet.id == Job.id, *has_facet)
