"""What is refused before any route sees it: foreign host names, cross-site writes, bodies that are not JSON or too large.

The service has no keys yet and listens on this machine only, but a browser on this machine runs other people's pages: one may
point its own name at 127.0.0.1 (DNS rebinding), or send a form here. Both are told by their headers.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Problem, ProblemResponse, of_status

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """An ASGI middleware that answers what must not go on with a problem, and passes the rest."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], max_body_bytes: int) -> None:
        self.app = app
        self.hosts = LOCAL_NAMES | {host.lower() for host in hosts}
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (ProblemResponse(refusal) if refusal else self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _host_name(host) not in self.hosts:
            return of_status(400, f"this service does not answer to the host name {_host_name(host)!r}")
        if scope["method"] in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return of_status(403, "this request comes from a page of another site")
        return self._body_refusal(headers)

    def _body_refusal(self, headers: Headers) -> Problem | None:
        length = headers.get("content-length", "")
        has_body = "transfer-encoding" in headers or length not in ("", "0")
        if has_body and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return of_status(415, "send the body as application/json")
        if length.isdecimal() and int(length) > self.max_body_bytes:
            return of_status(413, f"a request's body may hold {self.max_body_bytes} bytes")
        return None


def _host_name(host: str) -> str:
    """`127.0.0.1:8321` -> `127.0.0.1`; `[::1]:8321` -> `[::1]`."""
    host = host.lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
