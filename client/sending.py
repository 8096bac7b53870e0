"""A request and its answer as a flow: sent again where that does no harm, checked, and read into a type.

Sent again are requests that did not arrive, that were told to come back (429, 503), and those whose answer was lost on the way
where arriving twice is arriving once: reads, and every POST that has an idempotency key.
"""

import random
from dataclasses import replace
from uuid import uuid4

import httpx
from pydantic import TypeAdapter, ValidationError

from client.errors import ApiError, ServiceUnreachable, api_error
from client.models import Problem
from client.steps import Answer, Flow, Send, Sleep

RETRIES = 4
FIRST_DELAY_S = 0.25  # doubles with each; jitter takes up to half of it away, so that many clients do not come back at once
MAX_WAIT_S = 60.0  # a service that asks for more patience gets none
IN_FLIGHT = "idempotency-key-in-flight"
NOT_OURS = "what answers there is not Scalpel"


def send(url: str, request: Send, *, retries: int, is_repeatable: bool) -> Flow[httpx.Response]:
    """Args: url: of the service, for errors. is_repeatable: whether it may arrive twice.

    Raises: ServiceUnreachable, ApiError.
    """
    if request.method == "POST":  # one key for all of its sendings: the service carries it out once
        request = replace(request, headers={**request.headers, "Idempotency-Key": str(uuid4())})
    for delay_s in [*(FIRST_DELAY_S * 2**attempt for attempt in range(retries)), None]:
        try:
            response: httpx.Response = yield request
        except httpx.TransportError as error:
            has_not_arrived = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            if delay_s is None or not (is_repeatable or has_not_arrived):
                raise ServiceUnreachable(url, words(error)) from error
            yield Sleep(jittered(delay_s))
            continue
        proposed_s = _wait_s(response, delay_s, is_repeatable)
        if proposed_s is None:
            check(response)
            return response
        yield Sleep(proposed_s)
    raise AssertionError("the last attempt has an end")


def parsed(kind: type[Answer], content: bytes, url: str) -> Answer:
    """Raises: ServiceUnreachable: another service's answer."""
    try:
        return TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        raise ServiceUnreachable(url, NOT_OURS) from error


def check(response: httpx.Response) -> None:
    """Raises: ApiError: the answer, which has been read, is not a success."""
    if response.is_success:
        return
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:  # not ours: a proxy, or another service at that address
        text = response.content[:200].decode(errors="replace").strip()
        problem = Problem(title=response.reason_phrase or "HTTP error", status=response.status_code, detail=text or None)
    raise api_error(problem, _retry_after_s(response))


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, ApiError):
        return error.status == 503 or error.retry_after_s is not None
    return isinstance(error, ServiceUnreachable)


def jittered(delay_s: float) -> float:
    return delay_s * random.uniform(0.5, 1.0)  # noqa: S311  no secret


def words(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def _wait_s(response: httpx.Response, delay_s: float | None, is_repeatable: bool) -> float | None:
    """How long to wait before sending again; None where this answer is the last word."""
    proposed_s = _retry_after_s(response)
    is_told_so = response.status_code == 429 and proposed_s is not None  # a quota that is used up has no such header
    is_down = response.status_code == 503 and is_repeatable
    is_in_flight = response.status_code == 409 and IN_FLIGHT in response.text
    if delay_s is None or not (is_told_so or is_down or is_in_flight):
        return None
    wait_s = jittered(delay_s) if proposed_s is None else proposed_s + delay_s - jittered(delay_s)
    return wait_s if wait_s <= MAX_WAIT_S else None


def _retry_after_s(response: httpx.Response) -> float | None:
    proposed = response.headers.get("Retry-After", "")
    return float(proposed) if proposed.isascii() and proposed.isdecimal() else None
