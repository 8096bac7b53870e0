"""The FastAPI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from api import problems
from api.context import Context
from api.event_log import EventLog
from api.guard import Guard
from api.openapi import DESCRIPTION, PROBLEM_ANSWERS, with_problem_media_type
from api.routes import artifacts, events, exports, formats, health, jobs, methods, models
from api.tailer import Tailer
from compression import __version__
from jobs.artifacts import artifact_store
from jobs.database import engine, sessions
from jobs.queue import make_celery
from jobs.settings import Settings

MAX_BODY_BYTES = 1024 * 1024


def create_app(settings: Settings) -> FastAPI:
    """The application. It opens what it needs when the server starts it; the database is migrated already."""
    app = FastAPI(
        title="Scalpel",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's pages load their scripts from a public CDN
        redoc_url=None,
        redirect_slashes=False,
        responses=PROBLEM_ANSWERS,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    problems.install(app)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY_BYTES)  # counts what has no Content-Length
    app.add_middleware(Guard, hosts=(settings.host,), max_body_bytes=MAX_BODY_BYTES)
    for routes in (jobs, exports, events, artifacts, methods, formats, models, health):
        app.include_router(routes.router)
    _correct_openapi(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    database, celery = engine(settings), make_celery(settings)
    made = sessions(database)
    tailer = Tailer(EventLog(made))
    app.state.context = Context(settings, made, artifact_store(settings), celery, tailer)
    tailing = asyncio.create_task(tailer.run())
    try:
        yield
    finally:
        tailer.close()
        tailing.cancel()
        with suppress(asyncio.CancelledError):
            await tailing
        celery.close()
        database.dispose()


def _correct_openapi(app: FastAPI) -> None:
    made = app.openapi

    def openapi() -> dict[str, Any]:
        return with_problem_media_type(made())

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change the document
