"""The two ways to carry out a flow's steps: in this thread, and in an event loop of asyncio."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import EventSource

from client.steps import Answer, Close, Flow, Item, Open, Opened, Read, Send, Sleep, Step, Together, Work, as_item

FILE_PIECE_BYTES = 1024 * 1024


class Abandoned(Exception):
    """Another of several flows has failed, and this one need not go on."""


class Blocking:
    """Carries out flows in the caller's thread."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def run(self, flow: Flow[Answer]) -> Answer:
        answer: Answer
        (answer,) = self.iterate(as_item(flow))
        return answer

    def iterate(self, flow: Flow[None]) -> Generator[Any]:
        answer: Any = None
        error: Exception | None = None
        with closing(flow), ExitStack() as answers:
            while True:
                try:
                    step = flow.send(answer) if error is None else flow.throw(error)
                except StopIteration:
                    return
                answer = error = None
                if isinstance(step, Item):
                    yield step.value
                    continue
                try:
                    answer = self._take(step, answers)
                except Exception as raised:
                    error = raised

    def _take(self, step: Step, answers: ExitStack) -> Any:
        match step:
            case Send(content=Path() as path):
                with path.open("rb") as file:
                    return self._http.send(_request(self._http, step, file))
            case Send():
                return self._http.send(_request(self._http, step, step.content))
            case Open():
                return self._open(step, answers)
            case Read(opened):
                return next(opened.pieces, None)
            case Close(opened):
                opened.response.close()
            case Sleep(seconds):
                threading.Event().wait(seconds)
            case Work(function):
                return function()
            case Together(flows, limit):
                self._together(flows, limit)

    def _open(self, step: Open, answers: ExitStack) -> Opened:
        # Where a store has a file, the service sends there; httpx shows the key to no other host.
        request = _request(self._http, step.request, step.request.content)
        response = self._http.send(request, stream=True, follow_redirects=True)
        answers.callback(response.close)
        if not response.is_success:
            response.read()
        return Opened(response, EventSource(response).iter_sse() if step.has_messages else response.iter_bytes())

    def _together(self, flows: "Any", limit: int) -> None:
        over = threading.Event()
        with ThreadPoolExecutor(limit) as threads:
            try:
                for done in as_completed([threads.submit(self.run, _until(over, flow)) for flow in flows]):
                    done.result()
            finally:
                over.set()


class Waiting:
    """Carries out flows in the running event loop."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def run(self, flow: Flow[Answer]) -> Answer:
        answer: Answer
        (answer,) = [item async for item in self.iterate(as_item(flow))]
        return answer

    async def iterate(self, flow: Flow[None]) -> AsyncGenerator[Any]:
        answer: Any = None
        error: Exception | None = None
        with closing(flow):
            async with AsyncExitStack() as answers:
                while True:
                    try:
                        step = flow.send(answer) if error is None else flow.throw(error)
                    except StopIteration:
                        return
                    answer = error = None
                    if isinstance(step, Item):
                        yield step.value
                        continue
                    try:
                        answer = await self._take(step, answers)
                    except Exception as raised:
                        error = raised

    async def _take(self, step: Step, answers: AsyncExitStack) -> Any:
        match step:
            case Send(content=Path() as path):
                size = {"Content-Length": str(path.stat().st_size)}
                async with aclosing(_pieces(path)) as pieces:
                    return await self._http.send(_request(self._http, step, pieces, size))
            case Send():
                return await self._http.send(_request(self._http, step, step.content))
            case Open():
                return await self._open(step, answers)
            case Read(opened):
                return await anext(opened.pieces, None)
            case Close(opened):
                await opened.response.aclose()
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Work(function):
                return await asyncio.to_thread(function)
            case Together(flows, limit):
                await self._together(flows, limit)

    async def _open(self, step: Open, answers: AsyncExitStack) -> Opened:
        request = _request(self._http, step.request, step.request.content)
        response = await self._http.send(request, stream=True, follow_redirects=True)
        answers.push_async_callback(response.aclose)
        if not response.is_success:
            await response.aread()
        return Opened(response, EventSource(response).aiter_sse() if step.has_messages else response.aiter_bytes())

    async def _together(self, flows: Any, limit: int) -> None:
        places = asyncio.Semaphore(limit)

        async def one(flow: Flow[None]) -> None:
            async with places:
                await self.run(flow)

        try:
            async with asyncio.TaskGroup() as group:
                for flow in flows:
                    group.create_task(one(flow))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None


def _request(
    http: httpx.Client | httpx.AsyncClient, step: Send, content: Any, more_headers: dict[str, str] | None = None
) -> httpx.Request:
    headers = {**step.headers, **(more_headers or {})}
    timeout = http.timeout if step.timeout is None else step.timeout
    return http.build_request(
        step.method, step.path, params=step.params, content=content, json=step.json, headers=headers, timeout=timeout
    )


def _until(over: threading.Event, flow: Flow[None]) -> Flow[None]:
    """The flow, given up before its next step once it is over."""
    answer: Any = None
    error: Exception | None = None
    with closing(flow):
        while True:
            if over.is_set():
                raise Abandoned
            try:
                step = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration:
                return
            answer = error = None
            try:
                answer = yield step
            except Exception as raised:
                error = raised


async def _pieces(path: Path) -> AsyncGenerator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, FILE_PIECE_BYTES):
            yield piece
