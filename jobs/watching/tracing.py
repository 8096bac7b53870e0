"""Traces from a request to the blocks of its job. Off unless SCALPEL_OTEL_ENDPOINT is set; then `otel.py` does the work.

A job's row keeps the `traceparent` (W3C Trace Context) of the request that asked for it, so that the spans of whatever worker
takes it join that trace.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from jobs.settings import Settings

Attributes = Mapping[str, str | int | float | bool]

_current: ContextVar[str | None] = ContextVar("scalpel_traceparent", default=None)


class Span(Protocol):
    """Something that takes time."""

    @property
    def traceparent(self) -> str | None:
        """What spans inside it name as their parent; None without tracing."""

    def end(self, attributes: Attributes | None = None, *, name: str | None = None, error: str | None = None) -> None:
        """Args: name: in place of that at the beginning. error: why it failed."""


class Tracing(Protocol):
    """Where spans go."""

    def begin(
        self, name: str, parent: str | None, attributes: Attributes | None = None, *, began_ns: int | None = None
    ) -> Span:
        """Args: parent: a traceparent; None begins a trace. began_ns: since the epoch; None: now."""

    def close(self) -> None:
        """Send what is still here."""


class NoSpan:
    """A span that nobody keeps."""

    traceparent = None

    def end(self, attributes: Attributes | None = None, *, name: str | None = None, error: str | None = None) -> None:
        """Nothing."""


class NoTracing:
    """Tracing that is off."""

    def begin(
        self,
        name: str,  # noqa: ARG002  the protocol's
        parent: str | None,  # noqa: ARG002
        attributes: Attributes | None = None,  # noqa: ARG002
        *,
        began_ns: int | None = None,  # noqa: ARG002
    ) -> NoSpan:
        return NoSpan()

    def close(self) -> None:
        """Nothing."""


NO_TRACING = NoTracing()


def make_tracing(settings: Settings, service: str) -> Tracing:
    """Args: service: which of the service's processes this is. Raises: SettingsError: the extra `otel` is not installed."""
    if settings.otel_endpoint is None:
        return NO_TRACING
    from jobs.watching.otel import OtelTracing, otlp_exporter  # the packages of the extra are needed here alone

    return OtelTracing(service, otlp_exporter(settings.otel_endpoint))


@contextmanager
def inside(span: Span) -> Iterator[None]:
    """What is submitted inside belongs to the span's trace."""
    token = _current.set(span.traceparent)
    try:
        yield
    finally:
        _current.reset(token)


def current_traceparent() -> str | None:
    """Of the span that this thread is inside."""
    return _current.get()
