"""What the tenant entrusts to the service: written, never read back."""

from fastapi import APIRouter, status

from api.access_views import HubTokenRequest, SecretView, secret_view
from api.auth import Admin
from api.context import InContext
from api.openapi import refusals
from jobs.access import audit
from jobs.access.hub_access import HUB_TOKEN
from jobs.access.secrets import MasterKeys, delete_secret, find_secret, put_secret

router = APIRouter(prefix="/v1/secrets", tags=["access"])


@router.get("/hub-token")
def read_hub_token(caller: Admin, context: InContext) -> SecretView:
    """Whether the tenant has a hub token, and since when."""
    with context.sessions() as session:
        return secret_view(find_secret(session, caller.tenant_id, HUB_TOKEN))


@router.put("/hub-token", responses=refusals(409))
def put_hub_token(request: HubTokenRequest, caller: Admin, context: InContext) -> SecretView:
    """Keep a hub token, encrypted. From now on the tenant's models and texts are fetched with it."""
    with context.sessions.begin() as session:
        put_secret(session, MasterKeys.of(context.settings), caller.tenant_id, HUB_TOKEN, request.token.get_secret_value())
        audit.record(session, caller, "secret.put", HUB_TOKEN)
        return secret_view(find_secret(session, caller.tenant_id, HUB_TOKEN))


@router.delete("/hub-token", status_code=status.HTTP_204_NO_CONTENT, responses=refusals(404))
def remove_hub_token(caller: Admin, context: InContext) -> None:
    """Forget the hub token."""
    with context.sessions.begin() as session:
        delete_secret(session, caller.tenant_id, HUB_TOKEN)
        audit.record(session, caller, "secret.delete", HUB_TOKEN)
