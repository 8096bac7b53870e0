"""Whose row it is: the one place where a query is bound to a tenant.

Everything that a request reads or changes goes through here, so a foreign id is simply not found. Workers and housekeeping
serve all tenants and do not.
"""

from typing import TypeVar

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from jobs.access.tables import Owned

Row = TypeVar("Row", bound=Owned)


def owned(table: type[Row], tenant_id: str) -> Select[Row]:
    """The tenant's rows, to be narrowed further."""
    return select(table).where(is_owned(table, tenant_id))


def is_owned(table: type[Row], tenant_id: str) -> ColumnElement[bool]:
    """The same as a condition, for an UPDATE or a DELETE."""
    return table.tenant_id == tenant_id


def owned_row(session: Session, table: type[Row], tenant_id: str, row_id: str) -> Row | None:
    """The tenant's row of this id, read anew; None where there is none or it is somebody else's."""
    if not is_id(row_id):
        return None
    query = owned(table, tenant_id).where(table.id == row_id).execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def is_id(text: str) -> bool:
    """Whether it may be an id. What may not is asked of no database: PostgreSQL answers a NUL with an error."""
    return text.isascii() and text.isalnum()
