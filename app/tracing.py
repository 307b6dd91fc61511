"""OpenTelemetry: one span a request, and in it a span for each of tokenize, queue and inference.

Spans are made when a request is over, from the record that its log line is made from too, so that nothing is spent on
them before the answer is out, and nothing at all where tracing is off. Names of attributes are those of OpenTelemetry's
semantic conventions for HTTP; ours begin with ``strata.``.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Timer
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from strata import extras

if TYPE_CHECKING:
    from strata.app.request_context import RequestContext

_CLOSE_S = 2.0  # longest wait at the end for spans that have not been sent


class TracingError(ValueError):
    """Spans cannot be made; the message says what to do."""


class Tracing:
    """Makes spans and sends them where OTEL_EXPORTER_OTLP_ENDPOINT says, in a thread of its own.

    Resource, sampler and headers are likewise from OpenTelemetry's own OTEL_* variables.
    """

    def __init__(self, version: str) -> None:
        try:
            from opentelemetry import propagate, trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise TracingError(f"--traces: {extras.needs(extras.OTEL)}") from error
        named = Resource({SERVICE_NAME: "strata"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("strata", version)
        self._trace, self._propagate = trace, propagate

    def record(self, context: RequestContext, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The spans of a request that is over; a ``traceparent`` among its headers names their parent."""
        now, now_ns = perf_counter(), time_ns()

        def at(moment: float) -> int:
            """Nanoseconds since 1970 of a reading of perf_counter."""
            return now_ns - int((now - moment) * 1e9)

        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "url.path": path,
            "http.response.status_code": context.status,
            "strata.request_id": context.id,
            **{f"strata.{name}": value for name, value in context.facts.items()},
        }
        span = self._tracer.start_span(
            f"{method} {path}",
            context=self._propagate.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            attributes=attributes,
            start_time=at(context.started),
        )
        if context.status >= 500:
            span.set_status(self._trace.StatusCode.ERROR, str(context.facts.get("error", "")))
        inside = self._trace.set_span_in_context(span)
        for name, began, ended in context.stages:
            self._tracer.start_span(name, context=inside, start_time=at(began)).end(at(ended))
        span.end(now_ns)

    def close(self) -> None:
        """Send what has not been sent, for two seconds at most, and end the thread."""
        late = Timer(_CLOSE_S, self._exporter.shutdown)  # a flush tries again and again, whatever time it is given
        late.daemon = True
        late.start()
        self._provider.force_flush()
        self._provider.shutdown()
        late.cancel()
