"""What a request's body may be: JSON of at most 1 MiB, but for the few routes that take files."""

import re
from dataclasses import dataclass

from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.settings import Settings

MAX_BODY_BYTES = 1024 * 1024
PLAIN = "text/plain"
JSON_LINES = ("application/jsonl", "application/x-ndjson")
BYTES = "application/octet-stream"
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class BodyRule:
    """Args: media_types: in lower case, without parameters."""

    media_types: tuple[str, ...]
    max_bytes: int


class Bodies:
    """Which rule holds for a request."""

    def __init__(self, settings: Settings) -> None:
        self._otherwise = BodyRule(("application/json",), MAX_BODY_BYTES)
        self._special = (
            (re.compile(r"/v1/datasets"), BodyRule((PLAIN, *JSON_LINES), settings.max_dataset_bytes)),
            (re.compile(r"/v1/models/[^/]+/files/[^/]+"), BodyRule((BYTES,), settings.upload_part_bytes)),
            (re.compile(r"/(?!v1(/|$)).*"), BodyRule((FORM,), MAX_BODY_BYTES)),  # the dashboard's pages
        )

    @property
    def rules(self) -> tuple[BodyRule, ...]:
        return self._otherwise, *(rule for _, rule in self._special)

    def rule(self, scope: Scope) -> BodyRule:
        for path, rule in self._special:  # whatever the method: one that the path has not is answered as such
            if path.fullmatch(scope["path"]):
                return rule
        return self._otherwise


class BodyLimits:
    """An ASGI middleware: as Starlette's, with a limit for each rule."""

    def __init__(self, app: ASGIApp, bodies: Bodies) -> None:
        self.app = app
        self.bodies = bodies
        self._limited = {rule: RequestBodyLimitMiddleware(app, max_body_size=rule.max_bytes) for rule in bodies.rules}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._limited[self.bodies.rule(scope)] if scope["type"] == "http" else self.app
        await app(scope, receive, send)
