"""Spans of a request, of its wait for an engine and of its run, in the trace that the device began.

Nothing is measured here: the spans of wait and run are made afterwards from the times in the `Call`. Without
an exporter there is no tracer and no cost.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cloud_fallback.serving.call import Call

SERVICE = "edge-runtime-serve"

_CONTEXT = TraceContextTextMapPropagator()


class Tracing:
    """Makes spans and hands them to an exporter in the background.

    Args:
        exporter: Where they go.
        share: Of the requests that come without a trace, how many begin one, in [0, 1]. A caller's own choice
            is followed.
    """

    def __init__(self, exporter: SpanExporter, share: float = 1.0) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create({SERVICE_NAME: SERVICE}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(__name__)

    @contextmanager
    def request(self, call: Call) -> Generator[None, None, None]:
        """Trace a request for as long as the block runs.

        Args:
            call: Its ids are filled in at once; what else it learns is read at the end.
        """
        joined = _CONTEXT.extract({"traceparent": call.traceparent}) if call.traceparent else None
        span = self._tracer.start_span(call.route, joined, trace.SpanKind.SERVER)
        context = span.get_span_context()
        call.trace_id = trace.format_trace_id(context.trace_id)
        call.span_id = trace.format_span_id(context.span_id)
        try:
            yield
        except BaseException as error:
            span.set_status(trace.StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            if span.is_recording():
                self._parts(span, call)
            span.end()

    def _parts(self, span: trace.Span, call: Call) -> None:
        span.set_attribute("model", call.model)
        span.set_attribute("version", call.version)
        span.set_attribute("rows", call.rows)
        span.set_attribute("request_id", call.request_id)
        inside = trace.set_span_in_context(span)
        end_ns = time.time_ns()
        for name, spent_s in (("run", call.run_s), ("queue", call.queue_s)):
            if spent_s is None:
                continue
            begin_ns = end_ns - round(spent_s * 1e9)
            self._tracer.start_span(name, inside, start_time=begin_ns).end(end_ns)
            end_ns = begin_ns

    def close(self) -> None:
        """Send what is left and stop."""
        self._provider.shutdown()
