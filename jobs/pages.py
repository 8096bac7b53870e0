"""Lists in pages: by the sort key of the last row and not by a number, so that rows which come or go shift nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from jobs.base import UtcDateTime
from jobs.cursor import decode_cursor, encode_cursor

MAX_PAGE = 200
DEFAULT_PAGE = 50

Row = TypeVar("Row")


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows in order, and where the next page begins; None on the last one."""

    rows: Sequence[Row]
    next_cursor: str | None


def read_page(
    session: Session,
    query: Select[Row],
    key: Sequence[InstrumentedAttribute[Any]],
    cursor: str | None = None,
    limit: int = DEFAULT_PAGE,
    *,
    descending: bool = False,
) -> Page[Row]:
    """One page of what `query` finds.

    Args:
        key: columns, times or texts, that tell every two rows apart and give the order.
        cursor: `next_cursor` of the page before.
        limit: at most this many, and at most `MAX_PAGE`.
    Raises: InvalidCursor.
    """
    limit = max(1, min(limit, MAX_PAGE))
    query = query.order_by(*(column.desc() if descending else column.asc() for column in key)).limit(limit + 1)
    if cursor is not None:
        kinds = [datetime if isinstance(column.type, UtcDateTime) else str for column in key]
        position = tuple_(*decode_cursor(cursor, kinds))
        query = query.where(tuple_(*key) < position if descending else tuple_(*key) > position)
    found = session.scalars(query).all()
    rows = found[:limit]
    if len(found) <= limit:
        return Page(rows, None)
    return Page(rows, encode_cursor([getattr(rows[-1], column.key) for column in key]))
