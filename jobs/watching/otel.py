"""Spans through OpenTelemetry; imported only where tracing is on."""

from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from compression import __version__
from jobs.watching.redaction import redact
from jobs.watching.tracing import Attributes, Span

HEADER = "traceparent"
FORMAT = TraceContextTextMapPropagator()


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Sends to a collector, OTLP over HTTP."""
    return OTLPSpanExporter(endpoint=endpoint)


class _Span:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        FORMAT.inject(carrier, context=set_span_in_context(self._span, Context()))
        return carrier.get(HEADER)

    def end(self, attributes: Attributes | None = None, *, name: str | None = None, error: str | None = None) -> None:
        if name is not None:
            self._span.update_name(name)
        self._span.set_attributes(dict(attributes or {}))
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, redact(error)))
        self._span.end()


class OtelTracing:
    """Spans of this process, sent in batches by a thread of the library's own."""

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: service, "service.version": __version__}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("scalpel", __version__)

    def begin(
        self, name: str, parent: str | None, attributes: Attributes | None = None, *, began_ns: int | None = None
    ) -> Span:
        carrier: Mapping[str, str] = {} if parent is None else {HEADER: parent}
        context = FORMAT.extract(carrier, context=Context())
        return _Span(self._tracer.start_span(name, context, attributes=dict(attributes or {}), start_time=began_ns))

    def close(self) -> None:
        self._provider.shutdown()
