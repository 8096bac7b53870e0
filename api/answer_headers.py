"""Headers that every answer carries, whoever makes it: the request's id, and what the caller may still ask for.

An ASGI middleware. Other parts of the API add theirs while the request is at work; they go out when the answer starts.
"""

import re
from collections.abc import MutableMapping
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.watching.log_context import bind

REQUEST_ID = "X-Request-Id"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")  # nothing that could forge a line of a log
_KEY = "scalpel.answer_headers"


class AnswerHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _SAFE.fullmatch(given) else uuid4().hex
        answer_headers(scope)[REQUEST_ID] = request_id
        # A request is a task of its own, so nothing is to be taken back; the server logs a failure after this has ended.
        bind(request_id=request_id)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(answer_headers(scope))
            await send(message)

        await self.app(scope, receive, send_with_headers)


def answer_headers(scope: Scope) -> MutableMapping[str, str]:
    """What the answer to this request will carry; to be added to until it starts."""
    headers: MutableMapping[str, str] = scope.setdefault(_KEY, {})
    return headers
