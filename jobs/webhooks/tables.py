"""Webhooks of tenants, and every message to one of them: an outbox and a log in one."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Enum, ForeignKey, Index, String, Text, true
from sqlalchemy.orm import Mapped, mapped_column

from jobs.access.tables import Owned


class DeliveryState(StrEnum):
    """What became of a message."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


DELIVERY_STATE = Enum(
    DeliveryState, native_enum=False, length=16, values_callable=lambda states: [state.value for state in states]
)


class Webhook(Owned):
    """An address that is told when a tenant's jobs end. Its secrets lie among the tenant's secrets, encrypted."""

    __tablename__ = "webhooks"

    url: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(String(255))
    events: Mapped[list[str]]
    is_enabled: Mapped[bool] = mapped_column(default=True, server_default=true())
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    failing_since: Mapped[datetime | None]  # the first failure since anything was delivered
    old_secret_until: Mapped[datetime | None]  # the secret before the newest signs as well until then
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Delivery(Owned):
    """One message to one webhook. Written with the change it tells of; kept for a while as the log."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_due", "state", "due_at"),
        Index("ix_webhook_deliveries_page", "webhook_id", "created_at", "id"),
    )

    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(String(32))
    job_id: Mapped[str | None] = mapped_column(String(26))  # no foreign key: the log outlives a deleted job
    payload: Mapped[dict[str, Any]]
    state: Mapped[DeliveryState] = mapped_column(DELIVERY_STATE)
    attempt: Mapped[int] = mapped_column(default=0)  # the fence: rises with every claim and never falls
    retries: Mapped[int] = mapped_column(default=0)  # of this round; a resend begins a new one
    due_at: Mapped[datetime]
    leased_until: Mapped[datetime | None]  # somebody is sending it

    attempted_at: Mapped[datetime | None]  # this and the following: of the newest attempt
    status_code: Mapped[int | None]
    latency_s: Mapped[float | None]
    error: Mapped[str | None] = mapped_column(Text)
    excerpt: Mapped[str | None] = mapped_column(Text)  # how the answer's body begins

    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
