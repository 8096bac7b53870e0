"""What the API takes and answers about webhooks."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from jobs.tables import Delivery, Webhook
from jobs.webhooks.outbound import MAX_URL
from jobs.webhooks.outbox import EVENT_NAMES, EventName
from jobs.webhooks.tables import DeliveryState

WEBHOOK_EXAMPLES: list[Any] = [
    {"url": "https://hooks.example.com/scalpel", "events": ["job.succeeded", "job.failed"], "description": "pager"}
]
CHANGE_EXAMPLES: list[Any] = [{"events": ["job.failed"], "is_enabled": True}]

Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL)]
Events = Annotated[tuple[EventName, ...], Field(min_length=1, max_length=len(EVENT_NAMES))]
Description = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class WebhookRequest(BaseModel):
    """A webhook as asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": WEBHOOK_EXAMPLES})

    url: Url = Field(description="https, to a public address; redirects are not followed.")
    events: Events = Field(default=EVENT_NAMES, description="What it is told of.")
    description: Description = Field("", description="A word to know it by.")


class WebhookChange(BaseModel):
    """What of a webhook shall be different; what is left out stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": CHANGE_EXAMPLES})

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    is_enabled: bool | None = Field(None, description="Enabled again, it is sent what was pending when it was disabled.")


class WebhookView(_View):
    """A webhook of the tenant, without its secret."""

    id: str
    url: str
    events: tuple[str, ...]
    description: str
    is_enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None = Field(description="The first failure since anything was delivered.")
    old_secret_until: datetime | None = Field(description="The secret before the newest signs as well until then.")
    created_at: datetime
    updated_at: datetime


class SecretWebhookView(WebhookView):
    """A webhook that was just given a secret."""

    secret: str = Field(description="Signs its messages; it is not shown again.")


class DeliveryView(_View):
    """One message to a webhook, and what came of its newest attempt."""

    id: str
    type: str = Field(examples=["job.succeeded"])
    job_id: str | None
    state: DeliveryState
    attempt: int = Field(description="Counts the attempts, those of a resend, too.")
    created_at: datetime
    attempted_at: datetime | None
    next_attempt_at: datetime | None = Field(description="While it is pending.")
    finished_at: datetime | None
    status_code: int | None = Field(description="Of the answer; null where there was none.")
    latency_s: float | None
    error: str | None = Field(description="Why the attempt failed.")
    excerpt: str | None = Field(description="How the answer's body begins.")


def webhook_view(row: Webhook) -> WebhookView:
    return WebhookView(**_fields(row))


def secret_webhook_view(row: Webhook, secret: str) -> SecretWebhookView:
    return SecretWebhookView(**_fields(row), secret=secret)


def delivery_view(row: Delivery) -> DeliveryView:
    fields = {name: getattr(row, name) for name in DeliveryView.model_fields if name != "next_attempt_at"}
    return DeliveryView(**fields, next_attempt_at=row.due_at if row.state is DeliveryState.PENDING else None)


def _fields(row: Webhook) -> dict[str, Any]:
    return {name: getattr(row, name) for name in WebhookView.model_fields}
