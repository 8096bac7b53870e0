"""Is the process alive, and are the things that it needs?"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy import text

from api.context import Context, InContext
from api.problems import RETRY_AFTER_S, FieldProblem, ProblemResponse, of_status
from api.views import Health, Readiness
from jobs.errors import ArtifactCorrupt
from jobs.housekeeping.beats import last_beat
from jobs.schema import check_revision
from jobs.watching.presence import workers

router = APIRouter(tags=["health"])
log = logging.getLogger(__name__)

NO_FILE = "0" * 64


@router.get("/healthz")
def health() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/readyz", response_model=Readiness)
def readiness(context: InContext) -> Readiness | Response:
    """Database and its schema, broker and artifact store, each tried; 503 when one of them is down.

    Housekeeping and workers are told as well, but without them requests can still be served.
    """
    checks = {name: _outcome(name, check, context) for name, check in CHECKS.items()}
    down = [name for name, outcome in checks.items() if outcome != "ok"]
    if not down:
        return Readiness(status="ready", checks=checks, **_behind_the_scenes(context))
    parts = tuple(FieldProblem(field=name, detail=outcome) for name, outcome in checks.items())
    problem = of_status(503, f"down: {', '.join(down)}").model_copy(update={"errors": parts})
    return ProblemResponse(problem, {"Retry-After": str(RETRY_AFTER_S)})


def _outcome(name: str, check: Callable[[Context], None], context: Context) -> str:
    try:
        check(context)
    except Exception as error:  # whatever it is, this part is down; its words may name hosts, so only the log has them
        log.warning("%s is down: %s", name, error)
        return "down"
    return "ok"


def _behind_the_scenes(context: Context) -> dict[str, Any]:
    with context.sessions() as session:
        life = last_beat(session)
        known = workers(session, context.settings.worker_lost_s)
    age_s = None if life is None else max(0.0, (datetime.now(UTC) - life.at).total_seconds())
    return {"maintain_age_s": age_s, "workers": sum(status.state != "lost" for status in known)}


def _database(context: Context) -> None:
    with context.sessions() as session:
        session.execute(text("SELECT 1 FROM jobs LIMIT 1"))


def _schema(context: Context) -> None:
    """Raises: SchemaMismatch: the database was migrated by another version."""
    with context.sessions() as session:
        check_revision(session)


def _broker(context: Context) -> None:
    with context.celery.connection_for_write() as connection:
        connection.default_channel.client.ping()


def _artifacts(context: Context) -> None:
    """A store that can say that it does not have a file is up."""
    with suppress(ArtifactCorrupt):
        context.store.stream(NO_FILE)


CHECKS: dict[str, Callable[[Context], None]] = {
    "database": _database,
    "schema": _schema,
    "broker": _broker,
    "artifacts": _artifacts,
}
