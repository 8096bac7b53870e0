"""Sends what is due to webhooks, as the Standard Webhooks specification has it (https://www.standardwebhooks.com).

Between claim and record no transaction is open, however slowly somebody answers.
"""

import json
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from standardwebhooks import Webhook as Signer

from jobs.access.secrets import MasterKeys
from jobs.database import Sessions
from jobs.errors import SecretUnreadable, UrlRefused
from jobs.settings import Settings
from jobs.tables import Webhook
from jobs.webhooks.deliveries import Outcome, claim, record
from jobs.webhooks.outbound import OutboundPolicy
from jobs.webhooks.outbound_http import Outbound, OutboundFailed, Send
from jobs.webhooks.registry import signing_secrets

SENDERS = 8
USER_AGENT = "Scalpel-Webhooks"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """A claimed delivery, free of its session. Args: secrets: that sign it; none where they cannot be read."""

    id: str
    attempt: int
    url: str
    payload: Mapping[str, Any]
    secrets: tuple[str, ...]


class Postman:
    """Sends messages from threads of its own; several, in as many processes, do not send one twice."""

    def __init__(self, sessions: Sessions, settings: Settings, send: Send | None = None, senders: int = SENDERS) -> None:
        self._sessions, self._keys = sessions, MasterKeys.of(settings)
        self._send = send or Outbound(OutboundPolicy.of(settings)).post
        self._pool = ThreadPoolExecutor(senders, thread_name_prefix="webhooks")
        self._free = threading.Semaphore(senders)
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Waits for what is on its way, which the time limit of a request bounds."""
        self._stop.set()
        self._pool.shutdown()

    def start_due(self) -> int:
        """Begin to send what is due, as far as there are free senders; returns at once. Returns: how many began."""
        begun = 0
        while not self._stop.is_set() and self._free.acquire(blocking=False):
            try:
                message = self._claim()
            except BaseException:
                self._free.release()
                raise
            if message is None:
                self._free.release()
                break
            self._pool.submit(self._work_off, message)
            begun += 1
        return begun

    def _work_off(self, message: Message | None) -> None:
        """Send it, and then whatever else is due."""
        try:
            while message is not None:
                self._deliver(message)
                message = None if self._stop.is_set() else self._claim()
        except Exception:  # the boundary of the thread: leases bring back what it held
            log.exception("webhooks could not be sent")
        finally:
            self._free.release()

    def _claim(self) -> Message | None:
        with self._sessions.begin() as session:
            taken = claim(session)
            if taken is None:
                return None
            webhook = session.get_one(Webhook, taken.webhook_id, populate_existing=True)
            try:
                secrets = signing_secrets(session, self._keys, webhook)
            except SecretUnreadable as error:
                log.error("webhook %s: %s", webhook.id, error)
                secrets = ()
            return Message(taken.id, taken.attempt, webhook.url, taken.payload, secrets)

    def _deliver(self, message: Message) -> None:
        outcome = self._attempt(message)
        with self._sessions.begin() as session:
            record(session, message.id, message.attempt, outcome)
        if outcome.error is not None:
            log.info("webhook delivery %s, attempt %d: %s", message.id, message.attempt, outcome.error)

    def _attempt(self, message: Message) -> Outcome:
        now, began = datetime.now(UTC), time.monotonic()
        if not message.secrets:
            return Outcome(now, 0.0, error="the server cannot read the webhook's secret; rotate it")
        body = json.dumps(message.payload, separators=(",", ":"), sort_keys=True).encode()
        try:
            reply = self._send(message.url, signed_headers(message.id, now, body, message.secrets), body)
        except (UrlRefused, OutboundFailed) as failure:
            return Outcome(now, time.monotonic() - began, error=str(failure))
        excerpt = reply.body.decode(errors="replace").replace("\0", "\ufffd")  # which PostgreSQL does not hold
        return Outcome(now, time.monotonic() - began, reply.status, _fault(reply.status), excerpt)


def signed_headers(message_id: str, now: datetime, body: bytes, secrets: tuple[str, ...]) -> dict[str, str]:
    """Args: now: aware, in UTC. secrets: each signs, so that a receiver may have any of them."""
    name = f"msg_{message_id}"
    signatures = [Signer(secret).sign(name, now, body.decode()) for secret in secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "Webhook-Id": name,
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": " ".join(signatures),
    }


def _fault(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    return f"the answer's status was {status}" + ("; redirects are not followed" if 300 <= status < 400 else "")
