"""The OpenTelemetry SDK's own exporters, and curl's way of speaking: what they send is what is recorded."""

from __future__ import annotations

import gzip
import json
import zlib

import grpc  # type: ignore[import-untyped]  # it has no type hints
import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader

from tests.collector.claims.harness import Claims, GrpcSpans, HttpSpans, body, export_with, request_of


def span_names(data: bytes) -> list[str]:
    request = ExportTraceServiceRequest.FromString(data)
    return [span.name for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip], ids=["plain", "gzip"])
def test_spans_over_grpc(claims: Claims, session: str, compression: grpc.Compression | None) -> None:
    url = claims.listen(session)
    export_with(GrpcSpans(url, insecure=True, compression=compression), "chat over grpc")
    (frame,) = claims.exports(session)
    data = body(frame)
    if compression is not None:
        assert frame["encoding"] == "gzip"
        data = gzip.decompress(data)
    assert span_names(data) == ["chat over grpc"]
    assert {key: frame[key] for key in ("signal", "protocol", "cut", "status")} == {
        "signal": "traces",
        "protocol": "grpc",
        "cut": False,
        "status": 0,
    }
    assert frame["body_bytes"] == len(body(frame)) + 5


@pytest.mark.parametrize("compression", list(Compression))
def test_spans_over_http(claims: Claims, session: str, compression: Compression) -> None:
    url = claims.listen(session)
    export_with(HttpSpans(f"{url}/v1/traces", compression=compression), "chat over http")
    (frame,) = claims.exports(session)
    assert frame["encoding"] == compression.value.replace("none", "identity")
    assert frame["protocol"] == "http/protobuf"
    assert frame["status"] == 200
    data = body(frame)
    if compression is not Compression.NoCompression:
        data = (gzip if compression is Compression.Gzip else zlib).decompress(data)
    assert span_names(data) == ["chat over http"]


@pytest.mark.parametrize("over", ["grpc", "http"])
def test_logs(claims: Claims, session: str, over: str) -> None:
    url = claims.listen(session)
    exporter: LogRecordExporter = GrpcLogs(url, insecure=True) if over == "grpc" else HttpLogs(f"{url}/v1/logs")
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("test").emit(
        body="it is done", severity_number=SeverityNumber.INFO, event_name="gen_ai.choice", timestamp=1
    )
    provider.shutdown()
    (frame,) = claims.exports(session)
    request = ExportLogsServiceRequest.FromString(body(frame))
    assert request.resource_logs[0].scope_logs[0].log_records[0].body.string_value == "it is done"
    assert frame["signal"] == "logs"


@pytest.mark.parametrize("over", ["grpc", "http"])
def test_metrics(claims: Claims, session: str, over: str) -> None:
    url = claims.listen(session)
    exporter: MetricExporter = GrpcMetrics(url, insecure=True) if over == "grpc" else HttpMetrics(f"{url}/v1/metrics")
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)])
    provider.get_meter("test").create_counter("tokens").add(42)
    provider.shutdown()
    (frame,) = claims.exports(session)
    request = ExportMetricsServiceRequest.FromString(body(frame))
    assert request.resource_metrics[0].scope_metrics[0].metrics[0].name == "tokens"
    assert frame["signal"] == "metrics"


@pytest.mark.parametrize("over", ["grpc", "http"])
def test_a_large_export(claims: Claims, session: str, over: str) -> None:
    url = claims.listen(session)
    text = "word " * 600_000
    export_with(GrpcSpans(url, insecure=True) if over == "grpc" else HttpSpans(f"{url}/v1/traces"), prompt=text)
    (frame,) = claims.exports(session)
    (resource,) = ExportTraceServiceRequest.FromString(body(frame)).resource_spans
    assert resource.scope_spans[0].spans[0].attributes[0].value.string_value == text


def test_json(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    document = MessageToDict(request_of("chat in json"))
    answer = httpx.post(f"{url}/v1/traces", json=document)
    assert (answer.status_code, answer.json()) == (200, {})
    (frame,) = claims.exports(session)
    assert frame["protocol"] == "http/json"
    assert json.loads(body(frame)) == document


def test_many_exports_on_one_connection_are_all_there_in_order(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    exporter = GrpcSpans(url, insecure=True)
    for number in range(20):
        export_with_kept(exporter, str(number))
    exporter.shutdown()
    with httpx.Client(http1=True) as client:
        for number in range(20, 40):
            client.post(f"{url}/v1/traces", json=MessageToDict(request_of(str(number)))).raise_for_status()
    recorded = claims.ended(session)
    names: list[str] = []
    for frame in recorded.of("export"):
        if frame["protocol"] == "grpc":
            names += span_names(body(frame))
        else:
            names.append(json.loads(body(frame))["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"])
    assert names == [str(number) for number in range(40)]
    assert len(recorded.of("close")) == recorded.closed["connections"] == 2
    assert sum(frame["up_bytes"] for frame in recorded.of("close")) == recorded.closed["up_bytes"] > 0


def export_with_kept(exporter: GrpcSpans, name: str) -> None:
    """One span by an exporter that goes on."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExportResult

    provider = TracerProvider()
    span = provider.get_tracer("test").start_span(name)
    span.end()
    assert exporter.export([span]) is SpanExportResult.SUCCESS  # type: ignore[list-item]  # the SDK's own span
