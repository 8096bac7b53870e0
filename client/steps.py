"""What the client does, as steps without input or output: written once, carried out by `Scalpel` and by `AsyncScalpel`.

A flow is a generator. It yields steps and gets what they bring; what a step fails with is raised where it was yielded. Its
return value is the answer; a flow that makes a list one by one yields each as an `Item`. So all of the logic (retries, pages,
resumed streams, downloads) stands in one place, and each of the two drivers knows how to wait and nothing else.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import httpx

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Send:
    """A request -> its `httpx.Response`, read to the end. Raises: httpx.TransportError."""

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    json: Any = None
    content: bytes | Path | None = None  # a path: the file's bytes, as they are read
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: httpx.Timeout | float | None = None  # of the client where None


@dataclass(frozen=True)
class Open:
    """A request -> `Opened`, its body still to come; one that was refused is read. Raises: httpx.TransportError.

    Args: has_messages: whether the body is server-sent events; `Read` then brings one of them at a time.
    """

    request: Send
    has_messages: bool = False


@dataclass(frozen=True)
class Opened:
    """An answer that is read piece by piece. Args: pieces: an iterator of the driver's kind."""

    response: httpx.Response
    pieces: Any


@dataclass(frozen=True)
class Read:
    """The next piece of an opened answer -> it, or None at the end. Raises: httpx.TransportError, SSEError."""

    opened: Opened


@dataclass(frozen=True)
class Close:
    """Let go of an opened answer; those that a flow leaves open are closed when it ends."""

    opened: Opened


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Work:
    """Something that takes its time on disk -> what it returns, without holding up anybody."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Together:
    """Several flows, at most `limit` at once -> None. The first that fails ends them all."""

    flows: "Sequence[Flow[None]]"
    limit: int


@dataclass(frozen=True)
class Item:
    """One of a list -> None."""

    value: Any


Step: TypeAlias = Send | Open | Read | Close | Sleep | Work | Together | Item
Flow: TypeAlias = Generator[Step, Any, Answer]


def as_item(flow: Flow[Answer]) -> Flow[None]:
    """Its answer as the one item of a list."""
    yield Item((yield from flow))


def gathered(flow: Flow[None]) -> Flow[list[Any]]:
    """The items of a flow as one answer."""
    items: list[Any] = []
    answer: Any = None
    error: Exception | None = None
    while True:
        try:
            step = flow.send(answer) if error is None else flow.throw(error)
        except StopIteration:
            return items
        answer = error = None
        if isinstance(step, Item):
            items.append(step.value)
            continue
        try:
            answer = yield step
        except Exception as raised:
            error = raised
