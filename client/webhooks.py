"""Whether a webhook came from your service: for whoever receives them. Needs the standard library alone.

The signature is that of the Standard Webhooks specification (https://www.standardwebhooks.com); its own libraries do as well.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from client.errors import ClientError

TOLERANCE_S = 300.0


class WebhookRefused(ClientError):
    """It is not from the service, or it is too old to be trusted: answer 400 and do nothing."""


def verify_webhook(
    payload: bytes | str,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_s: float = TOLERANCE_S,
    now_s: float | None = None,
) -> dict[str, Any]:
    """The message, once its signature and its age are found good.

    Args:
        payload: the request's body as it arrived, byte for byte.
        headers: the request's.
        secret: `whsec_...`, as the service has shown it.
        tolerance_s: between the clocks of the service and of this machine, its way here included.
        now_s: for tests; seconds since 1970.
    Raises: WebhookRefused.
    """
    body = payload.encode() if isinstance(payload, str) else payload
    given = {name.lower(): value for name, value in headers.items()}
    message_id, sent_at, signatures = (given.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (message_id and sent_at and signatures):
        raise WebhookRefused("the headers webhook-id, webhook-timestamp and webhook-signature are needed")
    _check_age(sent_at, tolerance_s, time.time() if now_s is None else now_s)
    signed = f"{message_id}.{sent_at}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()
    if not any(hmac.compare_digest(expected.encode(), one.encode()) for one in signatures.split(" ")):
        raise WebhookRefused("no signature fits the body and the secret")
    message = json.loads(body)
    assert isinstance(message, dict), "the service signs nothing else"
    return message


def _check_age(sent_at: str, tolerance_s: float, now_s: float) -> None:
    if not sent_at.isascii() or not sent_at.isdecimal():
        raise WebhookRefused("the timestamp is no number")
    if abs(now_s - int(sent_at)) > tolerance_s:
        raise WebhookRefused("the timestamp is too far from this machine's time")


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise WebhookRefused("the secret is not one that a service has shown: whsec_ and base64") from error
