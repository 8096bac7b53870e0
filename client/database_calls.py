"""Model databases of the service."""

from datetime import datetime
from urllib.parse import quote

from client.calls import Core, call, items
from client.models import Answered
from client.steps import Flow


class DatabaseSummary(Answered):
    """A database in a list. `kind`: `levels` or `structures`; `seconds`: of building it."""

    id: str
    key: str
    kind: str
    model: str
    levels: int
    size_bytes: int
    seconds: float
    created_at: datetime
    used_at: datetime


class Database(DatabaseSummary):
    """`jobs`: those that chose from it and are still there."""

    jobs: tuple[str, ...] = ()


class DatabaseCalls(Core):
    """What goals were chosen from, and can be again."""

    @items(DatabaseSummary)
    def databases(self, *, page_size: int = 50) -> Flow[None]:
        """All model databases, newest first, fetched page by page."""
        return self._pages(DatabaseSummary, "/v1/databases", {"limit": page_size})

    @call
    def read_database(self, database_id: str) -> Flow[Database]:
        """One model database, and the jobs that chose from it."""
        return self._call(Database, "GET", f"/v1/databases/{quote(database_id, safe='')}")
