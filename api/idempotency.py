"""`Idempotency-Key`: a request that changes something acts once, however often it arrives.

Each POST route makes its change through `Once`; a request without a key goes straight through.
"""

import hashlib
from collections.abc import Iterator
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.auth import AnyKey
from api.context import InContext
from api.versions import etag_of
from jobs import idempotency
from jobs.idempotency import Answer, Held

REPLAYED = "Idempotent-Replayed"
View = TypeVar("View", bound=BaseModel)

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A fresh random word for each request, the same when it is sent again: then its first answer comes again.",
    ),
]


class Replay(Exception):
    """The request was carried out before."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class OneRequest:
    """A request that may have a key. Args: held: None where it has none."""

    def __init__(self, response: Response, held: Held | None, status: int) -> None:
        self._response = response
        self._held = held
        self._status = status

    def answer(self, session: Session, view: View, location: str | None = None) -> View:
        """Say what the change made, as the last step of its transaction.

        Raises: IdempotencyKeyInFlight: another request has taken over; the transaction must not be committed.
        """
        headers = {"ETag": etag_of(view)} | ({"Location": location} if location else {})
        self._response.headers.update(headers)
        if self._held:
            idempotency.keep(session, self._held, Answer(self._status, headers, view.model_dump_json()))
        return view


async def _digest(request: Request) -> str:
    """Of everything that makes the request what it is."""
    parts = (request.method.encode(), request.scope["raw_path"], request.scope["query_string"], await request.body())
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()


def _once(
    request: Request,
    response: Response,
    caller: AnyKey,  # what it may do, the route has asked already
    context: InContext,
    digest: Annotated[str, Depends(_digest)],
    key: Key = None,
) -> Iterator[OneRequest]:
    status = request.scope["route"].status_code or 200
    if key is None:
        yield OneRequest(response, None, status)
        return
    held = idempotency.hold(context.sessions, caller.tenant_id, key, digest, context.settings.idempotency_hours)
    if isinstance(held, Answer):
        raise Replay(held)
    try:
        yield OneRequest(response, held, status)
    except BaseException:  # refused or failed: sent again, it is tried again
        idempotency.let_go(context.sessions, held)
        raise


Once = Annotated[OneRequest, Depends(_once)]


async def replay(_: Request, error: Exception) -> Response:
    """The stored answer, as it was."""
    assert isinstance(error, Replay)
    headers = {**error.answer.headers, REPLAYED: "true"}
    return Response(error.answer.body, error.answer.status, headers, media_type="application/json")
