"""The workers: what they compute on, and whether they are at work."""

from fastapi import APIRouter

from api.auth import Reader
from api.context import InContext
from api.worker_views import WorkerView, worker_view
from jobs.watching import presence

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("")
def list_workers(caller: Reader, context: InContext) -> tuple[WorkerView, ...]:
    """Every worker, in the order in which they started. Jobs of other tenants show as busy slots only."""
    with context.sessions() as session:
        found = presence.workers(session, context.settings.worker_lost_s)
        return tuple(worker_view(status, caller.tenant_id) for status in found)
