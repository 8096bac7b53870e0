"""`/metrics`, for Prometheus."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from api.auth import Credentials, admin, caller_of
from api.context import Context, InContext
from api.metrics import DatabaseCollector
from jobs.access.tables import LOCAL_TENANT_ID
from jobs.errors import Forbidden

router = APIRouter(tags=["health"])


def _allowed(context: InContext, credentials: Credentials, request: Request) -> Context:
    """A key of the operator's (tenant `local`, scope `admin`), unless the door is open (`SCALPEL_METRICS=open`)."""
    if context.settings.metrics == "key":
        caller = admin(caller_of(request, context, credentials), context, request)
        if caller.tenant_id != LOCAL_TENANT_ID:
            raise Forbidden("admin of the tenant local")
    return context


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(context: Annotated[Context, Depends(_allowed)]) -> Response:
    """Figures of the service in Prometheus' text format, names beginning with `scalpel_`."""
    database = CollectorRegistry()
    database.register(DatabaseCollector(context.sessions, context.settings))
    return Response(generate_latest(database) + generate_latest(context.http_metrics.registry), media_type=CONTENT_TYPE_LATEST)
