"""A recorded command sends telemetry: it arrives over the sandbox's link, as a claim of that session."""

from __future__ import annotations

import base64
import json
import sys

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.collector.session.recorded import recorded
from tests.collector.session.recorder import Recorder

pytestmark = pytest.mark.needs("root", "runsc", "ip", "nft")

AGENT = """
import sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc
from opentelemetry.sdk.trace.export import SpanExportResult
provider = TracerProvider()
span = provider.get_tracer("agent").start_span("execute_tool bash", attributes={"gen_ai.tool.name": "bash"})
span.end()
sent = [OTLPSpanExporter().export([span]), Grpc("http://10.219.0.1:4317").export([span])]
sys.exit(0 if sent == [SpanExportResult.SUCCESS] * 2 else 3)
"""


def python_mounts() -> list[str]:
    """The interpreter and environment of this test, as they lie here."""
    return [f"{folder}:{folder}" for folder in sorted({sys.prefix, sys.base_prefix})]


def test_telemetry_that_a_real_exporter_sends_by_its_defaults_is_recorded_as_claims(recorder: Recorder) -> None:
    name, done = recorder.run(sys.executable, "-c", AGENT, mounts=python_mounts())
    assert done.returncode == 0, done.stderr
    log = recorded(recorder.home, name)
    stream = log.of("claims")
    frames = [json.loads(payload) for payload in stream.data]
    exports = [frame for frame in frames if frame["t"] == "export"]
    assert [frame["protocol"] for frame in exports] == ["http/protobuf", "grpc"]
    for frame in exports:
        request = ExportTraceServiceRequest.FromString(base64.b64decode(frame["body"]))
        assert request.resource_spans[0].scope_spans[0].spans[0].name == "execute_tool bash"
        assert frame["client"][0] == "10.219.0.2"
    assert stream.closed is not None
    assert stream.closed["exports"] == 2
    assert not log.gaps()


def test_without_claims_nothing_listens_and_nothing_is_set(recorder: Recorder) -> None:
    script = (
        'test -z "$OTEL_EXPORTER_OTLP_ENDPOINT" && '
        f"! {sys.executable} -c 'import socket; socket.create_connection((\"10.219.0.1\", 4318), 5)' 2>/dev/null"
    )
    name, done = recorder.run("/bin/sh", "-c", script, mounts=python_mounts(), claims=False)
    assert done.returncode == 0, done.stderr
    assert [s for s in recorded(recorder.home, name).streams if s.descriptor["source"] == "claims"] == []


def test_an_endpoint_of_the_operators_own_stays(recorder: Recorder) -> None:
    env = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://elsewhere.example"}
    name, done = recorder.run("/bin/sh", "-c", 'echo "$OTEL_EXPORTER_OTLP_ENDPOINT"', env=env)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
    assert recorded(recorder.home, name).of("claims").closed
