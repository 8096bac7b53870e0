"""The webhooks of a tenant: made, changed, given a new secret, removed; functions on a session, the caller commits."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_bytes

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from ulid import ULID

from jobs.access.secrets import MasterKeys, delete_secret, put_secret, read_secret
from jobs.errors import QuotaExceeded, SecretNotFound, WebhookDisabled, WebhookNotFound
from jobs.pages import DEFAULT_PAGE, Page, read_page
from jobs.scope import is_owned, owned, owned_row
from jobs.tables import Delivery, Webhook
from jobs.webhooks.outbound import OutboundPolicy
from jobs.webhooks.outbox import TEST, EventName, write_message

MAX_WEBHOOKS = 20  # of one tenant; each is asked for at the end of each job
SECRET_BYTES = 32
OLD_SECRET_HOURS = 24


def create_webhook(
    session: Session,
    keys: MasterKeys,
    policy: OutboundPolicy,
    tenant_id: str,
    url: str,
    events: Sequence[EventName],
    description: str = "",
) -> tuple[Webhook, str]:
    """Returns: the row, and the secret, which is shown this once. Raises: UrlRefused, QuotaExceeded, SecretsNotConfigured."""
    policy.parse(url)
    count = session.scalar(select(func.count()).select_from(Webhook).where(is_owned(Webhook, tenant_id))) or 0
    if count >= MAX_WEBHOOKS:
        raise QuotaExceeded("webhooks", MAX_WEBHOOKS, count, "delete one")
    now = datetime.now(UTC)
    webhook = Webhook(
        id=str(ULID.from_datetime(now)),
        tenant_id=tenant_id,
        url=url,
        events=_in_order(events),
        description=description,
        is_enabled=True,
        created_at=now,
        updated_at=now,
    )
    session.add(webhook)
    session.flush()
    return webhook, _new_secret(session, keys, webhook)


def list_webhooks(session: Session, tenant_id: str, *, cursor: str | None = None, limit: int = DEFAULT_PAGE) -> Page[Webhook]:
    """One page of the tenant's webhooks, newest first. Raises: InvalidCursor."""
    return read_page(session, owned(Webhook, tenant_id), (Webhook.created_at, Webhook.id), cursor, limit, descending=True)


def get_webhook(session: Session, tenant_id: str, webhook_id: str) -> Webhook:
    """Raises: WebhookNotFound: also where it is another tenant's."""
    webhook = owned_row(session, Webhook, tenant_id, webhook_id)
    if webhook is None:
        raise WebhookNotFound(webhook_id)
    return webhook


def enabled_webhook(session: Session, tenant_id: str, webhook_id: str) -> Webhook:
    """Raises: WebhookNotFound, WebhookDisabled."""
    webhook = get_webhook(session, tenant_id, webhook_id)
    if not webhook.is_enabled:
        raise WebhookDisabled(webhook_id)
    return webhook


def change_webhook(
    session: Session,
    policy: OutboundPolicy,
    tenant_id: str,
    webhook_id: str,
    *,
    url: str | None = None,
    events: Sequence[EventName] | None = None,
    description: str | None = None,
    is_enabled: bool | None = None,
) -> Webhook:
    """Change what is given. Enabled again, it is sent what was pending when it was disabled.

    Raises: WebhookNotFound, UrlRefused.
    """
    webhook = get_webhook(session, tenant_id, webhook_id)
    if url is not None:
        policy.parse(url)
        webhook.url = url
    if events is not None:
        webhook.events = _in_order(events)
    if description is not None:
        webhook.description = description
    if is_enabled is not None and is_enabled != webhook.is_enabled:
        webhook.is_enabled = is_enabled
        webhook.disabled_reason = None if is_enabled else "Its user has disabled it."
        webhook.failing_since = None
    webhook.updated_at = datetime.now(UTC)
    session.flush()
    return webhook


def rotate_secret(session: Session, keys: MasterKeys, tenant_id: str, webhook_id: str) -> tuple[Webhook, str]:
    """A new secret; the one before it signs as well for another day. Returns: as `create_webhook`.

    Raises: WebhookNotFound, SecretsNotConfigured, SecretUnreadable.
    """
    webhook = get_webhook(session, tenant_id, webhook_id)
    old = read_secret(session, keys, tenant_id, _name(webhook))
    if old is not None:
        put_secret(session, keys, tenant_id, _old_name(webhook), old)
        webhook.old_secret_until = datetime.now(UTC) + timedelta(hours=OLD_SECRET_HOURS)
    webhook.updated_at = datetime.now(UTC)
    session.flush()
    return webhook, _new_secret(session, keys, webhook)


def delete_webhook(session: Session, tenant_id: str, webhook_id: str) -> Webhook:
    """Its deliveries and secrets go with it. Raises: WebhookNotFound."""
    webhook = get_webhook(session, tenant_id, webhook_id)
    for name in (_name(webhook), _old_name(webhook)):
        try:
            delete_secret(session, tenant_id, name)
        except SecretNotFound:
            continue  # it was never rotated
    session.delete(webhook)
    session.flush()
    return webhook


def signing_secrets(session: Session, keys: MasterKeys, webhook: Webhook) -> tuple[str, ...]:
    """The secrets that sign now, the newest first. Raises: SecretUnreadable."""
    names = [_name(webhook)]
    if webhook.old_secret_until is not None and webhook.old_secret_until > datetime.now(UTC):
        names.append(_old_name(webhook))
    found = [read_secret(session, keys, webhook.tenant_id, name) for name in names]
    return tuple(secret for secret in found if secret is not None)


def send_test(session: Session, tenant_id: str, webhook_id: str) -> Delivery:
    """Queue a message that tells of nothing. Raises: WebhookNotFound, WebhookDisabled."""
    webhook = enabled_webhook(session, tenant_id, webhook_id)
    return write_message(session, webhook, TEST, {"webhook": webhook.id, "message": "Scalpel can reach you."})


def _new_secret(session: Session, keys: MasterKeys, webhook: Webhook) -> str:
    secret = "whsec_" + base64.b64encode(token_bytes(SECRET_BYTES)).decode()
    put_secret(session, keys, webhook.tenant_id, _name(webhook), secret)
    return secret


def _name(webhook: Webhook) -> str:
    return f"webhook-{webhook.id}"


def _old_name(webhook: Webhook) -> str:
    return f"{_name(webhook)}-old"


def _in_order(events: Sequence[EventName]) -> list[str]:
    return list(dict.fromkeys(events))
