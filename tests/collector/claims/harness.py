"""A real receiver process, driven as the keeper drives it, and exports as real exporters send them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from tests.collector.gateway.harness import Gateway, Recorded, body

__all__ = ["Claims", "GrpcSpans", "HttpSpans", "Recorded", "body", "export_with", "request_of", "speaking"]


class Claims(Gateway):
    """The process and our end of its socket pair."""

    NAME = "claims"

    def exports(self, session: str) -> list[dict[str, Any]]:
        """What was recorded of a session's exports."""
        return self.recorded(session).of("export")


def export_with(exporter: SpanExporter, name: str = "chat", **attributes: Any) -> None:
    """One span, made and sent by the real SDK."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span(name, attributes=attributes):
        pass
    provider.shutdown()


def request_of(*names: str, **attributes: str) -> ExportTraceServiceRequest:
    """A request with spans of these names."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for name in names:
        span = scope.spans.add(name=name, trace_id=b"t" * 16, span_id=b"s" * 8)
        for key, value in attributes.items():
            span.attributes.add(key=key).value.string_value = value
    return request


@contextmanager
def speaking(url: str) -> Iterator[socket.socket]:
    """A bare connection."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 15) as raw:
        yield raw
