"""Every list is answered in pages of one shape."""

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from jobs import pages

Item = TypeVar("Item")
Row = TypeVar("Row")

Cursor = Annotated[str | None, Query(max_length=1024, description="`next_cursor` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=pages.MAX_PAGE, description="At most so many items.")]


class Page(BaseModel, Generic[Item]):
    """Items in order."""

    model_config = ConfigDict(frozen=True)

    items: tuple[Item, ...]
    next_cursor: str | None = Field(description="Give it as `cursor` to get the next page; null on the last one.")


def page_of(view: Callable[[Row], Item], page: pages.Page[Row]) -> Page[Item]:
    return Page(items=tuple(map(view, page.rows)), next_cursor=page.next_cursor)
