"""The tenant's API keys: listed, made and revoked by whoever holds one with the scope `admin`."""

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Response, status

from api.access_views import KeyRequest, KeyView, NewKeyView, key_view, new_key_view
from api.auth import Admin
from api.context import InContext
from api.pages import Cursor, Limit, Page, page_of
from jobs.access import audit
from jobs.access.keys import grant_key, list_keys, revoke_key
from jobs.pages import DEFAULT_PAGE

router = APIRouter(prefix="/v1/keys", tags=["access"])


@router.get("")
def read_keys(caller: Admin, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Page[KeyView]:
    """The tenant's keys, the newest first, revoked ones too."""
    with context.sessions() as session:
        return page_of(key_view, list_keys(session, caller.tenant_id, cursor=cursor, limit=limit))


@router.post("", status_code=status.HTTP_201_CREATED)
def make_key(request: KeyRequest, caller: Admin, context: InContext, response: Response) -> NewKeyView:
    """Make a key for this tenant. The answer holds the key, which cannot be had again."""
    days = request.expires_in_days
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with context.sessions.begin() as session:
        row, key = grant_key(session, caller, request.name, request.scopes, expires_at)
        audit.record(session, caller, "key.create", row.id)
    response.headers["Cache-Control"] = "no-store"
    return new_key_view(row, key)


@router.delete("/{key_id}")
def remove_key(key_id: str, caller: Admin, context: InContext) -> KeyView:
    """Revoke a key: it opens nothing from now on. Doing it again changes nothing."""
    with context.sessions.begin() as session:
        row = revoke_key(session, caller.tenant_id, key_id)
        audit.record(session, caller, "key.revoke", row.id)
        return key_view(row)
