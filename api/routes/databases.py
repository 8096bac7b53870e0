"""Model databases that goals were chosen from: what there is to choose from again without building."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Reader
from api.context import InContext
from api.pages import Cursor, Limit, Page, page_of
from jobs import databases
from jobs.database_table import ModelDatabase
from jobs.pages import DEFAULT_PAGE

router = APIRouter(prefix="/v1/databases", tags=["databases"])


class DatabaseSummary(BaseModel):
    """Every matrix, or every half of a block, of one model at every level: what a goal chooses from."""

    model_config = ConfigDict(frozen=True)

    id: str
    key: str = Field(description="Of its contents: model, calibration, levels and circumstances. A report names it.")
    kind: str = Field(description="`levels` of bits and zeros, or `structures`, for models that shall be faster.")
    model: str = Field(description="As the user of the job that built it named it.")
    levels: int = Field(description="That a matrix can have; of structures those of attention and feed-forward together.")
    size_bytes: int
    seconds: float = Field(description="Of building it.")
    created_at: datetime
    used_at: datetime = Field(description="When the last job that chose from it ended.")


class DatabaseView(DatabaseSummary):
    jobs: tuple[str, ...] = Field(description="Those that chose from it and are still there, the oldest first.")


@router.get("")
def list_databases(
    caller: Reader, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[DatabaseSummary]:
    """The newest first. Jobs build them; the worker that did keeps them as long as there is room."""
    with context.sessions() as session:
        return page_of(_summary, databases.list_databases(session, caller.tenant_id, cursor, limit))


@router.get("/{database_id}")
def read_database(database_id: str, caller: Reader, context: InContext) -> DatabaseView:
    """One database, and the jobs that chose from it."""
    with context.sessions() as session:
        found = databases.get(session, caller.tenant_id, database_id)
        return DatabaseView(**_summary(found).model_dump(), jobs=tuple(databases.jobs_of(session, found)))


def _summary(row: ModelDatabase) -> DatabaseSummary:
    return DatabaseSummary.model_validate({name: getattr(row, name) for name in DatabaseSummary.model_fields})
