"""What is refused before any route sees it: foreign host names, cross-site writes, zero bytes, bodies not as they should be.

A browser on this machine runs other people's pages: one may point its own name at 127.0.0.1 (DNS rebinding), or send a form
here. Both are told by their headers. A service that listens beyond this machine and was not told its names answers to any.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.bodies import Bodies, BodyRule
from api.problems import Problem, ProblemResponse, of_status

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, section 9.2.1
WRITING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})  # others are no route's, and answered as such


class Guard:
    """An ASGI middleware that answers what must not go on with a problem, and passes the rest."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, bodies: Bodies) -> None:
        self.app = app
        self.hosts = None if hosts is None else LOCAL_NAMES | {host.lower() for host in hosts}
        self.bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (ProblemResponse(refusal) if refusal else self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts is not None and _host_name(host) not in self.hosts:
            return of_status(400, f"this service does not answer to the host name {_host_name(host)!r}")
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            return of_status(400, "no name, id or word of this service holds a zero byte")  # and no text of PostgreSQL
        if scope["method"] in SAFE_METHODS:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return of_status(403, "this request comes from a page of another site")
        return _body_refusal(headers, self.bodies.rule(scope)) if scope["method"] in WRITING_METHODS else None


def _body_refusal(headers: Headers, rule: BodyRule) -> Problem | None:
    length = headers.get("content-length", "")
    has_body = "transfer-encoding" in headers or length not in ("", "0")
    if has_body and headers.get("content-type", "").partition(";")[0].strip().lower() not in rule.media_types:
        return of_status(415, f"send the body as {' or '.join(rule.media_types)}")
    if length.isdecimal() and int(length) > rule.max_bytes:
        return of_status(413, f"a request's body may hold {rule.max_bytes} bytes here")
    return None


def _host_name(host: str) -> str:
    """`127.0.0.1:8321` -> `127.0.0.1`; `[::1]:8321` -> `[::1]`."""
    host = host.lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
