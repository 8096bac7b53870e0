"""Methods that are written once, as flows, and work on both clients: `Scalpel` returns what `AsyncScalpel` gives to `await`.

Which of the two it is, the type of the object tells: the descriptors below say it to type checkers, too.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

import httpx

from client import sending
from client.drivers import Blocking, Waiting
from client.models import JobFields, Page
from client.steps import Answer, Flow, Item, Send

if TYPE_CHECKING:
    from client.jobs import AsyncJob, Job

P = ParamSpec("P")
Listed = TypeVar("Listed")
REPEATABLE = ("GET", "POST")  # a POST has a key; of a deletion the second would be told that there is nothing


class Core:
    """What flows need of a client. Its subclasses have a driver, and a kind of jobs."""

    base_url: str
    _retries: int
    _job_kind: type[JobFields]

    def _call(self, kind: type[Answer], method: str, path: str, *, is_repeatable: bool = True, **fields: Any) -> Flow[Answer]:
        """Raises: ServiceUnreachable, ApiError. Args: fields: of `Send`."""
        response = yield from self._send(method, path, is_repeatable=is_repeatable, **fields)
        return self._own(sending.parsed(kind, response.content, self.base_url))

    def _send(self, method: str, path: str, *, is_repeatable: bool = True, **fields: Any) -> Flow[httpx.Response]:
        request, is_repeatable = Send(method, path, **fields), is_repeatable and method in REPEATABLE
        return (yield from sending.send(self.base_url, request, retries=self._retries, is_repeatable=is_repeatable))

    def _pages(self, kind: type[Any], path: str, params: Mapping[str, Any] | None = None) -> Flow[None]:
        """Every item of a list, page by page."""
        query = dict(params or {})
        while True:
            page: Page[Any] = yield from self._call(Page[kind], "GET", path, params=query)  # type: ignore[valid-type]
            for item in page.items:
                yield Item(self._own(item))
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    def _own(self, answer: Answer) -> Answer:
        """Jobs know where they are from, so that one can ask them for more."""
        if isinstance(answer, JobFields):
            answer._core = self
        return answer


class Blocks:
    """Of what works in the caller's thread."""

    @property
    def _driver(self) -> Blocking:
        raise NotImplementedError


class Waits:
    """Of what works in an event loop."""

    @property
    def _driver(self) -> Waiting:
        raise NotImplementedError


class _Method(Generic[P]):
    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[Any]]) -> None:
        self.__doc__, self.__wrapped__ = flow.__doc__, flow  # for `help`
        self.flow = flow

    def _of(self, side: Any, drive: Callable[[Flow[Any]], Any]) -> Any:
        @wraps(self.flow)
        def bound(*args: P.args, **kwargs: P.kwargs) -> Any:
            return drive(self.flow(side, *args, **kwargs))

        return bound


class call(_Method[P], Generic[P, Answer]):  # noqa: N801  a decorator
    """A method that has one answer."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[Answer]]) -> None:
        super().__init__(flow)

    @overload
    def __get__(self, side: None, owner: type) -> Self: ...
    @overload
    def __get__(self, side: Blocks, owner: type) -> Callable[P, Answer]: ...
    @overload
    def __get__(self, side: Waits, owner: type) -> Callable[P, Coroutine[Any, Any, Answer]]: ...
    def __get__(self, side: Any, owner: type) -> Any:
        return self if side is None else self._of(side, side._driver.run)


class job_call(_Method[P]):  # noqa: N801  a decorator
    """A method whose answer is a job of the client's own kind."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[JobFields]]) -> None:
        super().__init__(flow)

    @overload
    def __get__(self, side: None, owner: type) -> Self: ...
    @overload
    def __get__(self, side: Blocks, owner: type) -> "Callable[P, Job]": ...
    @overload
    def __get__(self, side: Waits, owner: type) -> "Callable[P, Coroutine[Any, Any, AsyncJob]]": ...
    def __get__(self, side: Any, owner: type) -> Any:
        return self if side is None else self._of(side, side._driver.run)


class _Items(_Method[P], Generic[P, Listed]):
    @overload
    def __get__(self, side: None, owner: type) -> Self: ...
    @overload
    def __get__(self, side: Blocks, owner: type) -> Callable[P, Generator[Listed]]: ...
    @overload
    def __get__(self, side: Waits, owner: type) -> Callable[P, AsyncGenerator[Listed]]: ...
    def __get__(self, side: Any, owner: type) -> Any:
        return self if side is None else self._of(side, side._driver.iterate)


class job_items(_Method[P]):  # noqa: N801  a decorator
    """A method that gives jobs of the client's own kind, one by one."""

    @overload
    def __get__(self, side: None, owner: type) -> Self: ...
    @overload
    def __get__(self, side: Blocks, owner: type) -> "Callable[P, Generator[Job]]": ...
    @overload
    def __get__(self, side: Waits, owner: type) -> "Callable[P, AsyncGenerator[AsyncJob]]": ...
    def __get__(self, side: Any, owner: type) -> Any:
        return self if side is None else self._of(side, side._driver.iterate)


def items(kind: type[Listed]) -> Callable[[Callable[Concatenate[Any, P], Flow[None]]], _Items[P, Listed]]:
    """A method that gives things of this kind one by one: with `for`, or with `async for`."""
    del kind  # it says the type, and that is all
    return _Items
