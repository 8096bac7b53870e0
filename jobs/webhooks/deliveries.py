"""The messages to webhooks: claimed by whoever sends, retried over days, kept as a log; functions on a session.

A claim is one conditional UPDATE with a lease, so that any number of senders send each message once; a sender that dies lets
its lease run out, and the message is sent again under the same id. One message at a time goes to a webhook, and failing ones
come after all others: addresses that do not answer hold up nobody else.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session, aliased

from jobs.errors import DeliveryNotFound
from jobs.pages import DEFAULT_PAGE, Page, read_page
from jobs.scope import owned
from jobs.tables import Delivery, Webhook
from jobs.webhooks.registry import enabled_webhook, get_webhook
from jobs.webhooks.tables import DeliveryState

MINUTE_S, HOUR_S = 60.0, 3600.0
# As the Standard Webhooks specification proposes it: ten attempts within about three days.
RETRY_DELAYS_S = (
    5.0, 5 * MINUTE_S, 30 * MINUTE_S, 2 * HOUR_S, 5 * HOUR_S, 10 * HOUR_S, 14 * HOUR_S, 20 * HOUR_S, 24 * HOUR_S,
)  # fmt: skip
JITTER = 0.1  # of a delay, added at most, so that what failed together does not come back together
LEASE_S = 120.0  # far longer than a request may take, the look-up of its host included
DISABLED_AFTER = timedelta(days=3)
KEPT_FOR = timedelta(days=30)
GONE = 410  # the answer of an address that wants no more


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt. Args: error: None where it was delivered."""

    attempted_at: datetime
    latency_s: float
    status_code: int | None = None
    error: str | None = None
    excerpt: str | None = None


def claim(session: Session, now: datetime | None = None) -> Delivery | None:
    """Take the message that has been due for longest, or None; first of all those to addresses that do not fail."""
    now = now or datetime.now(UTC)
    other = aliased(Delivery)
    is_busy = exists().where(
        other.webhook_id == Delivery.webhook_id, other.state == DeliveryState.PENDING, other.leased_until > now
    )
    due = Delivery.state == DeliveryState.PENDING, Delivery.due_at <= now
    best = (
        select(Delivery.id)
        .join(Webhook, Webhook.id == Delivery.webhook_id)
        .where(*due, Webhook.is_enabled, ~is_busy)
        .order_by(Webhook.failing_since.is_not(None), Delivery.due_at, Delivery.id)
        .limit(1)
        .with_for_update(of=Delivery, skip_locked=True)  # PostgreSQL; SQLite has one writer at a time and needs none
        .scalar_subquery()
    )
    until = now + timedelta(seconds=LEASE_S)
    taken = update(Delivery).where(Delivery.id == best, *due)
    taken = taken.values(attempt=Delivery.attempt + 1, leased_until=until, due_at=until)
    return session.scalars(taken.returning(Delivery).execution_options(populate_existing=True)).one_or_none()


def record(
    session: Session, delivery_id: str, attempt: int, outcome: Outcome, draw: Callable[[], float] = random.random
) -> Delivery | None:
    """Write what came of an attempt: the end, or the next one's time; None where the message is somebody else's by now.

    Args: draw: for the jitter; numbers from 0 to 1.
    """
    mine = Delivery.id == delivery_id, Delivery.attempt == attempt, Delivery.state == DeliveryState.PENDING
    held = update(Delivery).where(*mine).values(leased_until=None).returning(Delivery)
    message = session.scalars(held.execution_options(populate_existing=True)).one_or_none()
    if message is None:
        return None
    message.attempted_at, message.latency_s = outcome.attempted_at, outcome.latency_s
    message.status_code, message.error, message.excerpt = outcome.status_code, outcome.error, outcome.excerpt
    if outcome.error is None:
        _end(message, DeliveryState.DELIVERED)
        _note_success(session, message.webhook_id)
    elif outcome.status_code == GONE or message.retries == len(RETRY_DELAYS_S):
        _end(message, DeliveryState.FAILED)
        _note_failure(session, message, outcome)
    else:
        delay_s = RETRY_DELAYS_S[message.retries] * (1 + JITTER * draw())
        message.due_at = datetime.now(UTC) + timedelta(seconds=delay_s)
        message.retries += 1
        _note_failure(session, message, outcome)
    session.flush()
    return message


def list_deliveries(
    session: Session, tenant_id: str, webhook_id: str, *, cursor: str | None = None, limit: int = DEFAULT_PAGE
) -> Page[Delivery]:
    """One page of a webhook's messages, newest first. Raises: WebhookNotFound, InvalidCursor."""
    get_webhook(session, tenant_id, webhook_id)
    query = owned(Delivery, tenant_id).where(Delivery.webhook_id == webhook_id)
    return read_page(session, query, (Delivery.created_at, Delivery.id), cursor, limit, descending=True)


def resend(session: Session, tenant_id: str, webhook_id: str, delivery_id: str) -> Delivery:
    """Have a message sent again soon, under its own id and with all its retries; one that is pending comes at once.

    Raises: WebhookNotFound, WebhookDisabled, DeliveryNotFound.
    """
    enabled_webhook(session, tenant_id, webhook_id)
    query = owned(Delivery, tenant_id).where(Delivery.webhook_id == webhook_id, Delivery.id == delivery_id)
    message = session.scalars(query.with_for_update()).one_or_none()
    if message is None:
        raise DeliveryNotFound(delivery_id)
    message.state, message.due_at, message.retries = DeliveryState.PENDING, datetime.now(UTC), 0
    message.finished_at = None
    session.flush()
    return message


def forget_old(session: Session, now: datetime | None = None) -> int:
    """Remove messages that ended long ago from the log. Returns: how many."""
    then = (now or datetime.now(UTC)) - KEPT_FOR
    old = delete(Delivery).where(Delivery.state != DeliveryState.PENDING, Delivery.created_at < then)
    return len(session.scalars(old.returning(Delivery.id)).all())


def _end(message: Delivery, state: DeliveryState) -> None:
    message.state = state
    message.finished_at = datetime.now(UTC)


def _note_success(session: Session, webhook_id: str) -> None:
    was_failing = Webhook.id == webhook_id, Webhook.failing_since.is_not(None)
    session.execute(update(Webhook).where(*was_failing).values(failing_since=None))


def _note_failure(session: Session, message: Delivery, outcome: Outcome) -> None:
    """Disable the webhook where it wants no more, or where a message was given up and nothing has arrived for days."""
    webhook = session.scalars(select(Webhook).where(Webhook.id == message.webhook_id).with_for_update()).one()
    webhook.failing_since = webhook.failing_since or outcome.attempted_at
    if outcome.status_code == GONE:
        reason = "It answered 410 (gone)."
    elif message.state is DeliveryState.FAILED and outcome.attempted_at - webhook.failing_since >= DISABLED_AFTER:
        reason = f"Nothing was delivered since {webhook.failing_since:%Y-%m-%d %H:%M} UTC; the last attempt: {outcome.error}"
    else:
        return
    webhook.is_enabled, webhook.disabled_reason = False, reason
    webhook.updated_at = datetime.now(UTC)
