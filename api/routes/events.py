"""A job's events as server-sent events."""

from collections.abc import AsyncIterable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.auth import Reader
from api.context import InContext
from jobs import repository

router = APIRouter(prefix="/v1/jobs", tags=["events"])

MAX_SEQ = 2**31 - 1
After = Annotated[int | None, Query(ge=0, le=MAX_SEQ, description="Number of the last event that the reader has.")]
LastEventId = Annotated[int | None, Header(ge=0, le=MAX_SEQ, description="The same, as browsers send it; it wins.")]


def _known(job_id: str, caller: Reader, context: InContext) -> str:
    """Refuse an unknown job while the answer can still have a status. Raises: JobNotFound."""
    with context.sessions() as session:
        return repository.get(session, caller.tenant_id, job_id).id


@router.get("/{job_id}/events", response_class=EventSourceResponse)
async def follow(
    known_id: Annotated[str, Depends(_known)], context: InContext, after: After = None, last_event_id: LastEventId = None
) -> AsyncIterable[ServerSentEvent]:
    """Every event of the job, past and coming; the stream ends with the job's final state.

    `id` is the event's number, `event` its type, `data` the event as JSON. A comment is sent every 15 seconds of silence.
    """
    position = after if last_event_id is None else last_event_id
    async for event in context.tailer.follow(known_id, position or 0):
        yield ServerSentEvent(id=str(event.seq), event=event.type, data=event)
