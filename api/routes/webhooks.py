"""Webhooks: who is told of the tenant's jobs, and what became of the messages. All of it needs the scope `admin`:
addresses hold tokens, and answers hold whatever the other side says."""

from fastapi import APIRouter, Response, status

from api.auth import Admin
from api.context import InContext
from api.idempotency import Once
from api.openapi import refusals
from api.pages import Cursor, Limit, Page, page_of
from api.webhook_views import (
    DeliveryView,
    SecretWebhookView,
    WebhookChange,
    WebhookRequest,
    WebhookView,
    delivery_view,
    secret_webhook_view,
    webhook_view,
)
from jobs.access import audit
from jobs.access.secrets import MasterKeys
from jobs.pages import DEFAULT_PAGE
from jobs.webhooks import deliveries as webhook_deliveries
from jobs.webhooks import registry as webhooks
from jobs.webhooks.outbound import OutboundPolicy

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


@router.get("")
def list_webhooks(caller: Admin, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Page[WebhookView]:
    """The tenant's webhooks, the newest first."""
    with context.sessions() as session:
        return page_of(webhook_view, webhooks.list_webhooks(session, caller.tenant_id, cursor=cursor, limit=limit))


@router.post("", status_code=status.HTTP_201_CREATED, responses=refusals(409))
def create(request: WebhookRequest, caller: Admin, context: InContext, response: Response) -> SecretWebhookView:
    """Have an address told of jobs. The answer holds the secret that signs, which cannot be had again."""
    keys, policy = MasterKeys.of(context.settings), OutboundPolicy.of(context.settings)
    with context.sessions.begin() as session:
        row, secret = webhooks.create_webhook(
            session, keys, policy, caller.tenant_id, request.url, request.events, request.description
        )
        audit.record(session, caller, "webhook.create", row.id)
        view = secret_webhook_view(row, secret)
    response.headers["Location"] = f"/v1/webhooks/{view.id}"
    response.headers["Cache-Control"] = "no-store"
    return view


@router.get("/{webhook_id}")
def read(webhook_id: str, caller: Admin, context: InContext) -> WebhookView:
    """One webhook."""
    with context.sessions() as session:
        return webhook_view(webhooks.get_webhook(session, caller.tenant_id, webhook_id))


@router.patch("/{webhook_id}")
def change(webhook_id: str, request: WebhookChange, caller: Admin, context: InContext) -> WebhookView:
    """Change what is given; enable or disable it."""
    with context.sessions.begin() as session:
        row = webhooks.change_webhook(
            session,
            OutboundPolicy.of(context.settings),
            caller.tenant_id,
            webhook_id,
            url=request.url,
            events=request.events,
            description=request.description,
            is_enabled=request.is_enabled,
        )
        audit.record(session, caller, "webhook.change", row.id)
        return webhook_view(row)


@router.delete("/{webhook_id}")
def remove(webhook_id: str, caller: Admin, context: InContext) -> WebhookView:
    """Remove it with its log and secrets; what is pending is not sent any more."""
    with context.sessions.begin() as session:
        row = webhooks.get_webhook(session, caller.tenant_id, webhook_id)
        view = webhook_view(row)
        webhooks.delete_webhook(session, caller.tenant_id, webhook_id)
        audit.record(session, caller, "webhook.delete", webhook_id)
        return view


@router.post("/{webhook_id}/rotate", responses=refusals(409))
def rotate(webhook_id: str, caller: Admin, context: InContext, response: Response) -> SecretWebhookView:
    """Give it a new secret, shown this once. The one before signs as well for 24 hours."""
    with context.sessions.begin() as session:
        row, secret = webhooks.rotate_secret(session, MasterKeys.of(context.settings), caller.tenant_id, webhook_id)
        audit.record(session, caller, "webhook.rotate", row.id)
        view = secret_webhook_view(row, secret)
    response.headers["Cache-Control"] = "no-store"
    return view


@router.post("/{webhook_id}/test", status_code=status.HTTP_202_ACCEPTED, responses=refusals(409))
def send_test(webhook_id: str, caller: Admin, context: InContext, once: Once) -> DeliveryView:
    """Send it a message of the type `webhook.test`; the log tells what came of it."""
    with context.sessions.begin() as session:
        row = webhooks.send_test(session, caller.tenant_id, webhook_id)
        audit.record(session, caller, "webhook.test", webhook_id)
        return once.answer(session, delivery_view(row))


@router.get("/{webhook_id}/deliveries")
def list_deliveries(
    webhook_id: str, caller: Admin, context: InContext, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[DeliveryView]:
    """Its messages of the last 30 days, the newest first."""
    with context.sessions() as session:
        page = webhook_deliveries.list_deliveries(session, caller.tenant_id, webhook_id, cursor=cursor, limit=limit)
        return page_of(delivery_view, page)


@router.post("/{webhook_id}/deliveries/{delivery_id}/resend", status_code=status.HTTP_202_ACCEPTED, responses=refusals(409))
def resend(webhook_id: str, delivery_id: str, caller: Admin, context: InContext, once: Once) -> DeliveryView:
    """Send a message again, under the same id, which lets its receiver know it."""
    with context.sessions.begin() as session:
        row = webhook_deliveries.resend(session, caller.tenant_id, webhook_id, delivery_id)
        audit.record(session, caller, "webhook.resend", row.id)
        return once.answer(session, delivery_view(row))
