"""The first page: what runs, what waits, who works, what came out. It is told of changes as they happen."""

import asyncio
import hashlib
from collections.abc import AsyncIterable
from typing import Annotated, Any

from fastapi import Header, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import browser
from api.auth import Reader
from api.context import Context, InContext
from api.dashboard.pages import page_router, render, show
from api.routes import access, jobs, workers
from jobs import repository
from jobs.access.browser_sessions import session_caller
from jobs.access.keys import Caller
from jobs.errors import Unauthenticated
from jobs.states import FINAL, State
from jobs.view import JobView

router = page_router()

LOOK_S = 1.0
RECENT = 10
WAITING = 50


@router.get("/")
def overview(request: Request, caller: Reader, context: InContext) -> Response:
    return show(request, "overview.html", **_found(caller, context))


@router.get("/overview/events", response_class=EventSourceResponse)
async def follow(
    request: Request, caller: Reader, context: InContext, last_event_id: Annotated[str | None, Header()] = None
) -> AsyncIterable[ServerSentEvent]:
    """The live part of the page whenever it has changed, whole: who comes back after a lost connection has missed nothing."""
    shown = last_event_id
    while not context.tailer.is_closed:
        try:
            part = await asyncio.to_thread(_part, request, caller, context)
        except Unauthenticated:  # signed out elsewhere, or the key was revoked
            return
        digest = hashlib.sha256(part.encode()).hexdigest()[:16]
        if digest != shown:
            shown = digest
            yield ServerSentEvent(id=digest, raw_data=part)
        await asyncio.sleep(LOOK_S)


def _part(request: Request, caller: Caller, context: Context) -> str:
    """Raises: Unauthenticated."""
    token = browser.session_token(request)
    if token is not None and caller.key_id is not None:
        with context.sessions.begin() as session:
            session_caller(session, token)
    return render(request, "parts/overview.html", **_found(caller, context))


def _found(caller: Caller, context: Context) -> dict[str, Any]:
    running = jobs.list_jobs(caller, context, state=State.RUNNING, limit=WAITING).items
    waiting = [jobs.list_jobs(caller, context, state=state, limit=WAITING).items for state in (State.QUEUED, State.PAUSED)]
    return {
        "running": [(job, _memory(context, job)) for job in running],
        "waiting": sum(waiting, ()),
        "workers": workers.list_workers(caller, context),
        "recent": _recent(caller, context),
        "me": access.read_me(caller, context),
    }


def _recent(caller: Caller, context: Context) -> list[JobView]:
    """The jobs that ended last."""
    ended = [job for state in FINAL for job in jobs.list_jobs(caller, context, state=state, limit=RECENT).items]
    return sorted(ended, key=lambda job: job.finished_at or job.updated_at, reverse=True)[:RECENT]


def _memory(context: Context, job: JobView) -> dict[str, Any]:
    """As the job's newest finished block told it."""
    with context.sessions() as session:
        block = repository.newest_event(session, job.id, "block")
    return {} if block is None or block.attempt != job.attempt else block.data
