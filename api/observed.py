"""An ASGI middleware that counts, times, traces and logs every request."""

import logging
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import HttpMetrics
from jobs.watching.tracing import Tracing, inside

UNMATCHED = "unmatched"  # one label for every path that is no route, or a stranger could make labels without end
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = logging.getLogger(__name__)


class Observed:
    """Around all middlewares that refuse, so that refusals count as well."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics, tracing: Tracing) -> None:
        self.app, self.metrics, self.tracing = app, metrics, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, elapsed_s = time.perf_counter(), 500, None

        async def note_start(message: Message) -> None:
            nonlocal status, elapsed_s
            if message["type"] == "http.response.start":
                status, elapsed_s = message["status"], time.perf_counter() - started
            await send(message)

        method = scope["method"] if scope["method"] in METHODS else "other"
        span = self.tracing.begin(method, Headers(scope=scope).get("traceparent"))
        with inside(span):
            try:
                await self.app(scope, receive, note_start)
            finally:
                elapsed_s = time.perf_counter() - started if elapsed_s is None else elapsed_s
                route = _route(scope)
                self.metrics.observe(method, route, status, elapsed_s)
                known = {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                span.end(known, name=f"{method} {route}", error=f"status {status}" if status >= 500 else None)
                log.info("%s %s %d %.1f ms", method, scope["path"], status, elapsed_s * 1e3)


def _route(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", UNMATCHED))
