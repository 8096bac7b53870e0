"""Is the process alive, and are the things that it needs?"""

import logging
from collections.abc import Callable
from contextlib import suppress

from fastapi import APIRouter
from fastapi.responses import Response
from sqlalchemy import text

from api.context import Context, InContext
from api.problems import FieldProblem, ProblemResponse, of_status
from api.views import Health, Readiness
from jobs.errors import ArtifactCorrupt

router = APIRouter(tags=["health"])
log = logging.getLogger(__name__)

NO_FILE = "0" * 64


@router.get("/healthz")
def health() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/readyz", response_model=Readiness)
def readiness(context: InContext) -> Readiness | Response:
    """Database, broker and artifact store, each tried; 503 when one of them is down."""
    checks = {name: _outcome(name, check, context) for name, check in CHECKS.items()}
    down = [name for name, outcome in checks.items() if outcome != "ok"]
    if not down:
        return Readiness(status="ready", checks=checks)
    parts = tuple(FieldProblem(field=name, detail=outcome) for name, outcome in checks.items())
    problem = of_status(503, f"down: {', '.join(down)}").model_copy(update={"errors": parts})
    return ProblemResponse(problem, {"Retry-After": "5"})


def _outcome(name: str, check: Callable[[Context], None], context: Context) -> str:
    try:
        check(context)
    except Exception as error:  # whatever it is, this part is down; its words may name hosts, so only the log has them
        log.warning("%s is down: %s", name, error)
        return "down"
    return "ok"


def _database(context: Context) -> None:
    with context.sessions() as session:
        session.execute(text("SELECT 1 FROM jobs LIMIT 1"))


def _broker(context: Context) -> None:
    with context.celery.connection_for_write() as connection:
        connection.default_channel.client.ping()


def _artifacts(context: Context) -> None:
    """A store that can say that it does not have a file is up."""
    with suppress(ArtifactCorrupt):
        context.store.stream(NO_FILE)


CHECKS: dict[str, Callable[[Context], None]] = {"database": _database, "broker": _broker, "artifacts": _artifacts}
