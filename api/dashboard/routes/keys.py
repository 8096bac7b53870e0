"""The tenant's keys, its hub token, and what was done lately."""

from fastapi import Request, Response

from api.access_views import HubTokenRequest, KeyRequest, NewKeyView
from api.auth import Admin
from api.browser import form_of
from api.context import Context, InContext
from api.dashboard.pages import checked, go_to, page_router, show
from api.pages import Cursor
from api.routes import access, keys, secrets
from jobs.access.keys import SCOPES, Caller

router = page_router()

AUDITED = 20


@router.get("/keys")
def key_list(request: Request, caller: Admin, context: InContext, cursor: Cursor = None) -> Response:
    return _show(request, caller, context, cursor)


@router.post("/keys")
def make_key(request: Request, caller: Admin, context: InContext) -> Response:
    """The key is on this one answer and nowhere else, so it is no redirection."""
    form = form_of(request)
    days = form.get("expires_in_days", "").strip()
    asked = {"name": form.get("name", ""), "scopes": form.getlist("scopes")} | ({"expires_in_days": days} if days else {})
    return _show(request, caller, context, made=keys.make_key(checked(KeyRequest, asked), caller, context, Response()))


@router.post("/keys/{key_id}/revoke")
def revoke(request: Request, key_id: str, caller: Admin, context: InContext) -> Response:
    keys.remove_key(key_id, caller, context)
    return go_to(request, "/keys")


@router.post("/hub-token")
def put_hub_token(request: Request, caller: Admin, context: InContext) -> Response:
    asked = {"token": form_of(request).get("token", "").strip()}
    secrets.put_hub_token(checked(HubTokenRequest, asked), caller, context)
    return go_to(request, "/keys")


@router.post("/hub-token/delete")
def forget_hub_token(request: Request, caller: Admin, context: InContext) -> Response:
    secrets.remove_hub_token(caller, context)
    return go_to(request, "/keys")


def _show(
    request: Request, caller: Caller, context: Context, cursor: str | None = None, made: NewKeyView | None = None
) -> Response:
    return show(
        request,
        "keys.html",
        found=keys.read_keys(caller, context, cursor),
        own=caller.key_id,
        made=made,
        scopes=[scope for scope in SCOPES if scope in caller.scopes],
        hub_token=secrets.read_hub_token(caller, context),
        can_keep_secrets=bool(context.settings.secret_keys),
        audit=access.read_audit(caller, context, limit=AUDITED).items,
    )
