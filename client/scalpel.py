"""The two clients: one method for each thing the service does, in the caller's thread or in an event loop."""

from types import TracebackType
from typing import Any, Self

import httpx

from client.access_calls import AccessCalls
from client.bringing import Bringing
from client.calls import Blocks, Core, Waits, call
from client.database_calls import DatabaseCalls
from client.drivers import Blocking, Waiting
from client.job_calls import JobCalls
from client.jobs import AsyncJob, Job
from client.models import Format, Method, Readiness, Worker
from client.sending import RETRIES
from client.steps import Flow
from client.sweep_calls import SweepCalls
from client.webhook_calls import WebhookCalls

DEFAULT_URL = "http://127.0.0.1:8321"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class _Calls(JobCalls, SweepCalls, DatabaseCalls, Bringing, AccessCalls):
    """What both clients do."""

    def __init__(self, base_url: str, retries: int) -> None:
        self.base_url = base_url.rstrip("/")
        self._retries = retries

    @call
    def methods(self) -> Flow[tuple[Method, ...]]:
        """The compression methods, with the JSON schemas of their options."""
        return self._call(tuple[Method, ...], "GET", "/v1/methods")

    @call
    def formats(self) -> Flow[tuple[Format, ...]]:
        """The output formats: what they hold, what loads them, what they refuse."""
        return self._call(tuple[Format, ...], "GET", "/v1/formats")

    @call
    def workers(self) -> Flow[tuple[Worker, ...]]:
        """What computes the jobs; of other tenants' jobs it says only that a slot is busy."""
        return self._call(tuple[Worker, ...], "GET", "/v1/workers")

    @call
    def readiness(self) -> Flow[Readiness]:
        """Whether everything that the service needs answers. Raises: Unavailable: something does not; its words name it."""
        return self._call(Readiness, "GET", "/readyz")


class Scalpel(_Calls, Blocks):
    """A connection to a Scalpel service. Close it, or use it as a context manager. Several threads may share it.

    Every method raises `ServiceUnreachable` when nothing answers and `ApiError` when the service refuses.
    """

    _job_kind = Job

    def __init__(
        self, base_url: str = DEFAULT_URL, *, api_key: str | None = None, timeout_s: float = 30.0, retries: int = RETRIES
    ) -> None:
        """Args: as of `AsyncScalpel`."""
        super().__init__(base_url, retries)
        self._http = httpx.Client(**_connection(self.base_url, api_key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    @property
    def webhooks(self) -> "Webhooks":
        """Whom the service tells of the tenant's jobs."""
        return Webhooks(self)

    @property
    def _driver(self) -> Blocking:
        return Blocking(self._http)

    def close(self) -> None:
        self._http.close()


class AsyncScalpel(_Calls, Waits):
    """The same for asyncio: what `Scalpel` returns is awaited, and what it iterates over is iterated over with `async for`."""

    _job_kind = AsyncJob

    def __init__(
        self, base_url: str = DEFAULT_URL, *, api_key: str | None = None, timeout_s: float = 30.0, retries: int = RETRIES
    ) -> None:
        """Args:
        api_key: as an administrator gave it, or from `local.key` in the data folder of a service on this machine.
        timeout_s: for each piece of an answer, not for the whole.
        retries: of a request, with growing pauses or those that the service asks for, before it fails.
        """
        super().__init__(base_url, retries)
        self._http = httpx.AsyncClient(**_connection(self.base_url, api_key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def webhooks(self) -> "AsyncWebhooks":
        """Whom the service tells of the tenant's jobs."""
        return AsyncWebhooks(self)

    @property
    def _driver(self) -> Waiting:
        return Waiting(self._http)

    async def close(self) -> None:
        await self._http.aclose()


class Webhooks(WebhookCalls, Blocks):
    """`Scalpel(...).webhooks`."""

    def __init__(self, service: Scalpel) -> None:
        _share(self, service)
        self._service = service

    @property
    def _driver(self) -> Blocking:
        return self._service._driver


class AsyncWebhooks(WebhookCalls, Waits):
    """`AsyncScalpel(...).webhooks`."""

    def __init__(self, service: AsyncScalpel) -> None:
        _share(self, service)
        self._service = service

    @property
    def _driver(self) -> Waiting:
        return self._service._driver


def _share(part: Core, service: Core) -> None:
    part.base_url, part._retries = service.base_url, service._retries


def _connection(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Of httpx's clients. A proxy from the environment cannot reach this machine's own loopback."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    is_local = httpx.URL(base_url).host in LOOPBACK
    return {"base_url": base_url, "headers": headers, "timeout": timeout_s, "trust_env": not is_local}
