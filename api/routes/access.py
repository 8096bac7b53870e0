"""The caller about itself, and what its tenant did."""

from fastapi import APIRouter

from api.access_views import AuditView, MeView, TenantView, audit_view
from api.auth import Admin, AnyKey
from api.context import InContext
from api.pages import Cursor, Limit, Page, page_of
from jobs.access import audit
from jobs.access.keys import SCOPES
from jobs.access.quotas import quotas_of, use_of
from jobs.pages import DEFAULT_PAGE
from jobs.tables import Tenant

router = APIRouter(prefix="/v1", tags=["access"])


@router.get("/me")
def read_me(caller: AnyKey, context: InContext) -> MeView:
    """Whose key this is, what it may do, and the tenant's limits and use."""
    with context.sessions() as session:
        tenant = session.get_one(Tenant, caller.tenant_id)
        return MeView(
            tenant=TenantView(id=tenant.id, name=tenant.name),
            key_id=caller.key_id,
            scopes=tuple(scope for scope in SCOPES if scope in caller.scopes),
            quotas=quotas_of(tenant, context.settings),
            use=use_of(session, tenant.id),
        )


@router.get("/audit")
def read_audit(caller: Admin, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Page[AuditView]:
    """What was done with the tenant's keys, and by the operator for it; the newest first."""
    with context.sessions() as session:
        return page_of(audit_view, audit.list_entries(session, caller.tenant_id, cursor=cursor, limit=limit))
