"""The FastAPI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI

from api import problems
from api.answer_headers import AnswerHeaders
from api.bodies import Bodies, BodyLimits
from api.context import Context
from api.dashboard.routers import ROUTERS
from api.event_log import EventLog
from api.guard import Guard
from api.idempotency import Replay, replay
from api.incoming import incoming_folder, remove_left_over
from api.metrics import HttpMetrics
from api.observed import Observed
from api.openapi import DESCRIPTION, document_refusals, refusals
from api.rate_limiter import rate_limiter
from api.routes import (
    access,
    artifacts,
    databases,
    datasets,
    estimates,
    events,
    exports,
    formats,
    health,
    jobs,
    keys,
    methods,
    metrics,
    models,
    publications,
    secrets,
    sweeps,
    webhooks,
    workers,
)
from api.tailer import Tailer
from compression import __version__
from jobs.database import engine, sessions
from jobs.queue import make_celery
from jobs.settings import Settings
from jobs.store.artifacts import artifact_store
from jobs.watching.tracing import Tracing, make_tracing


def create_app(settings: Settings, tracing: Tracing | None = None) -> FastAPI:
    """The application. It opens what it needs when the server starts it; the database is migrated already.

    Args: tracing: in place of what the settings say.
    """
    app = FastAPI(
        title="Scalpel",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's pages load their scripts from a public CDN
        redoc_url=None,
        redirect_slashes=False,
        responses=refusals(500),
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.http_metrics = HttpMetrics()
    app.state.tracing = make_tracing(settings, "scalpel-api") if tracing is None else tracing
    problems.install(app)
    app.add_exception_handler(Replay, replay)
    bodies = Bodies(settings)
    app.add_middleware(BodyLimits, bodies=bodies)  # counts what has no Content-Length
    app.add_middleware(Guard, hosts=settings.known_hosts, bodies=bodies)
    app.add_middleware(Observed, metrics=app.state.http_metrics, tracing=app.state.tracing)
    app.add_middleware(AnswerHeaders)
    for routes in (
        jobs,
        estimates,
        exports,
        events,
        artifacts,
        datasets,
        methods,
        formats,
        models,
        keys,
        secrets,
        access,
        webhooks,
        publications,
        sweeps,
        databases,
        workers,
        health,
        metrics,
    ):
        app.include_router(routes.router)
    for pages in ROUTERS:
        app.include_router(pages)
    _correct_openapi(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    database, celery = engine(settings), make_celery(settings)
    made = sessions(database)
    tailer = Tailer(EventLog(made))
    remove_left_over(incoming_folder(settings))
    app.state.context = Context(
        settings, made, artifact_store(settings), celery, tailer, app.state.http_metrics, rate_limiter(settings)
    )
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
        app.state.tracing.close()


def _correct_openapi(app: FastAPI) -> None:
    made = app.openapi

    def openapi() -> dict[str, Any]:
        return document_refusals(made())

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change the document
