"""Managing webhooks through the service: `Scalpel(...).webhooks`."""

from collections.abc import Iterable
from datetime import datetime
from urllib.parse import quote

from client.calls import Core, call, items
from client.models import Answered
from client.steps import Flow, gathered


class Webhook(Answered):
    """A webhook, without its secret."""

    id: str
    url: str
    events: tuple[str, ...]
    description: str = ""
    is_enabled: bool
    disabled_reason: str | None = None
    failing_since: datetime | None = None
    old_secret_until: datetime | None = None
    created_at: datetime
    updated_at: datetime


class NewWebhook(Webhook):
    """A webhook that was just given a secret; see `verify_webhook`."""

    secret: str


class Delivery(Answered):
    """One message to a webhook, and what came of its newest attempt."""

    id: str
    type: str
    job_id: str | None = None
    state: str
    attempt: int
    created_at: datetime
    attempted_at: datetime | None = None
    next_attempt_at: datetime | None = None
    finished_at: datetime | None = None
    status_code: int | None = None
    latency_s: float | None = None
    error: str | None = None
    excerpt: str | None = None


class WebhookCalls(Core):
    """Whom the service tells of the tenant's jobs: `Scalpel(...).webhooks`."""

    @call
    def list(self) -> Flow[tuple[Webhook, ...]]:
        """The newest first."""
        return tuple((yield from gathered(self._pages(Webhook, _path()))))

    @call
    def create(self, url: str, events: Iterable[str] | None = None, *, description: str = "") -> Flow[NewWebhook]:
        """Have `url` told of jobs. `secret` is in the answer, and only there. Args: events: None for all there are."""
        wanted = {} if events is None else {"events": [*events]}
        asked = {"url": url, "description": description, **wanted}
        return self._call(NewWebhook, "POST", _path(), is_repeatable=False, json=asked)

    @call
    def change(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        events: Iterable[str] | None = None,
        description: str | None = None,
        is_enabled: bool | None = None,
    ) -> Flow[Webhook]:
        """Change what is given; None leaves it."""
        said = {"url": url, "events": None if events is None else [*events], "description": description}
        changes = {name: value for name, value in {**said, "is_enabled": is_enabled}.items() if value is not None}
        return self._call(Webhook, "PATCH", _path(webhook_id), json=changes)

    @call
    def rotate(self, webhook_id: str) -> Flow[NewWebhook]:
        """A new secret; the one before signs as well for 24 hours."""
        return self._call(NewWebhook, "POST", _path(webhook_id, "rotate"), is_repeatable=False)

    @call
    def delete(self, webhook_id: str) -> Flow[Webhook]:
        return self._call(Webhook, "DELETE", _path(webhook_id))

    @call
    def test(self, webhook_id: str) -> Flow[Delivery]:
        """Have a message sent that tells of nothing."""
        return self._call(Delivery, "POST", _path(webhook_id, "test"))

    @items(Delivery)
    def deliveries(self, webhook_id: str, *, page_size: int = 50) -> Flow[None]:
        """Its messages, newest first, fetched page by page."""
        return self._pages(Delivery, _path(webhook_id, "deliveries"), {"limit": page_size})

    @call
    def resend(self, webhook_id: str, delivery_id: str) -> Flow[Delivery]:
        """Have a message sent again, under its own id."""
        return self._call(Delivery, "POST", _path(webhook_id, "deliveries", delivery_id, "resend"))


def _path(*parts: str) -> str:
    return "/".join(["/v1/webhooks", *(quote(part, safe="") for part in parts)])
