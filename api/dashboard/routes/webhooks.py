"""Who is told of the tenant's jobs, and what came of the messages."""

from fastapi import Request, Response

from api.auth import Admin
from api.browser import form_of
from api.context import Context, InContext
from api.dashboard.pages import checked, go_to, page_router, show
from api.idempotency import Once
from api.pages import Cursor
from api.routes import webhooks
from api.webhook_views import SecretWebhookView, WebhookChange, WebhookRequest
from jobs.access.keys import Caller
from jobs.webhooks.outbox import EVENT_NAMES

router = page_router()


@router.get("/webhooks")
def webhook_list(request: Request, caller: Admin, context: InContext, cursor: Cursor = None) -> Response:
    return _show_list(request, caller, context, cursor)


@router.post("/webhooks")
def create(request: Request, caller: Admin, context: InContext) -> Response:
    """The secret is on this one answer and nowhere else, so it is no redirection."""
    form = form_of(request)
    asked = {"url": form.get("url", "").strip(), "events": form.getlist("events"), "description": form.get("description", "")}
    made = webhooks.create(checked(WebhookRequest, asked), caller, context, Response())
    return _show_list(request, caller, context, made=made)


@router.get("/webhooks/{webhook_id}")
def webhook(request: Request, webhook_id: str, caller: Admin, context: InContext, cursor: Cursor = None) -> Response:
    return _show_one(request, webhook_id, caller, context, cursor)


@router.post("/webhooks/{webhook_id}/rotate")
def rotate(request: Request, webhook_id: str, caller: Admin, context: InContext) -> Response:
    """Shown this once, too."""
    made = webhooks.rotate(webhook_id, caller, context, Response())
    return _show_one(request, webhook_id, caller, context, made=made)


@router.post("/webhooks/{webhook_id}/enable")
def enable(request: Request, webhook_id: str, caller: Admin, context: InContext) -> Response:
    webhooks.change(webhook_id, WebhookChange(is_enabled=True), caller, context)
    return go_to(request, f"/webhooks/{webhook_id}")


@router.post("/webhooks/{webhook_id}/disable")
def disable(request: Request, webhook_id: str, caller: Admin, context: InContext) -> Response:
    webhooks.change(webhook_id, WebhookChange(is_enabled=False), caller, context)
    return go_to(request, f"/webhooks/{webhook_id}")


@router.post("/webhooks/{webhook_id}/test")
def send_test(request: Request, webhook_id: str, caller: Admin, context: InContext, once: Once) -> Response:
    webhooks.send_test(webhook_id, caller, context, once)
    return go_to(request, f"/webhooks/{webhook_id}")


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/resend")
def resend(request: Request, webhook_id: str, delivery_id: str, caller: Admin, context: InContext, once: Once) -> Response:
    webhooks.resend(webhook_id, delivery_id, caller, context, once)
    return go_to(request, f"/webhooks/{webhook_id}")


@router.post("/webhooks/{webhook_id}/delete")
def delete(request: Request, webhook_id: str, caller: Admin, context: InContext) -> Response:
    webhooks.remove(webhook_id, caller, context)
    return go_to(request, "/webhooks")


def _show_list(
    request: Request, caller: Caller, context: Context, cursor: str | None = None, made: SecretWebhookView | None = None
) -> Response:
    return show(
        request,
        "webhooks.html",
        found=webhooks.list_webhooks(caller, context, cursor),
        made=made,
        events=EVENT_NAMES,
        can_keep_secrets=bool(context.settings.secret_keys),
    )


def _show_one(
    request: Request,
    webhook_id: str,
    caller: Caller,
    context: Context,
    cursor: str | None = None,
    made: SecretWebhookView | None = None,
) -> Response:
    return show(
        request,
        "webhook.html",
        webhook=webhooks.read(webhook_id, caller, context),
        deliveries=webhooks.list_deliveries(webhook_id, caller, context, cursor),
        made=made,
    )
