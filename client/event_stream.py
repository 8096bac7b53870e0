"""A job's events, from one connection to the next."""

from collections.abc import Callable

import httpx
from httpx_sse import SSEError
from pydantic import ValidationError

from client.errors import ApiError, ServiceUnreachable
from client.models import Event, JobFields
from client.sending import NOT_OURS, check, is_passing, jittered, words
from client.steps import Close, Flow, Item, Open, Opened, Read, Send, Sleep

STREAM_SILENCE_S = 60.0  # the service sends a keep-alive comment every 15 s; four missing ones mean a dead connection
CONNECT_TIMEOUT_S = 30.0
RECONNECT_DELAYS_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0)  # between drops without an event in between; then it gives up


def followed(url: str, path: str, after: int, read_job: Callable[[], Flow[JobFields]]) -> Flow[None]:
    """Every event after the number `after`, the last being the job's final state.

    Raises: ServiceUnreachable: several drops in a row. ApiError.
    """
    drops = 0
    while True:
        reason, seen = "the stream ended early", after
        try:
            opened = yield from _opened(path, after)
            while (event := (yield from _next(url, opened))) is not None:
                drops, after = 0, event.seq
                yield Item(event)
                if event.is_final:
                    return
            yield Close(opened)
        except httpx.TransportError as error:
            reason = words(error)
        except ApiError as error:
            if not is_passing(error):
                raise
            reason = str(error)
        else:
            if after == seen and (yield from read_job()).is_final:
                return  # the caller asked for what comes after the last event
        if drops == len(RECONNECT_DELAYS_S):
            raise ServiceUnreachable(url, reason)
        yield Sleep(jittered(RECONNECT_DELAYS_S[drops]))
        drops += 1


def _opened(path: str, after: int) -> Flow[Opened]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", "Last-Event-ID": str(after)}
    timeout = httpx.Timeout(CONNECT_TIMEOUT_S, read=STREAM_SILENCE_S)
    opened: Opened = yield Open(Send("GET", path, headers=headers, timeout=timeout), has_messages=True)
    check(opened.response)
    return opened


def _next(url: str, opened: Opened) -> Flow[Event | None]:
    """The next event; None at the stream's end."""
    try:
        while (message := (yield Read(opened))) is not None:
            if message.data:
                return Event.model_validate_json(message.data)
    except (SSEError, ValidationError) as error:
        raise ServiceUnreachable(url, NOT_OURS) from error
    return None
