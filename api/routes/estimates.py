"""What a job would need, before it is asked for."""

from fastapi import APIRouter

from api.auth import AsTenant, Reader
from api.context import InContext
from jobs.estimating.estimates import Estimate
from jobs.estimating.foretelling import foretell
from jobs.request import JobRequest, check_request
from jobs.uploads.brought import Brought

router = APIRouter(prefix="/v1/estimates", tags=["jobs"])


@router.post("")
def estimate(request: JobRequest, caller: Reader, as_tenant: AsTenant, context: InContext) -> Estimate:
    """The needs of this very request, as `POST /v1/jobs` takes it; nothing is queued or downloaded but headers."""
    brought = Brought(context.sessions, caller.tenant_id)
    foretold = foretell(request, check_request(request), as_tenant, brought, formats=True)
    with context.sessions() as session:
        found, _ = foretold.on_this_server(session, context.settings)
    return found
