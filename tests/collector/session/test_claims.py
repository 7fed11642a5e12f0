"""A recorded command sends telemetry: it arrives over the sandbox's link, as a claim of that session."""

from __future__ import annotations

import base64
import json
import sys

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sandtrail.replay.timeline import read_timeline
from tests.collector.gateway.upstream import Server, serving
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


TELLING = """
import json, subprocess, time, urllib.request
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("agent")
asked = {"model": "m", "messages": [{"role": "user", "content": "What is in /tmp?"}]}
with tracer.start_as_current_span("chat m", attributes={"gen_ai.operation.name": "chat"}) as span:
    request = urllib.request.Request("http://model.test/v1/chat/completions", json.dumps(asked).encode())
    request.add_header("Content-Type", "application/json")
    answer = json.load(urllib.request.urlopen(request))
    span.set_attribute("gen_ai.response.id", answer["id"])
(call,) = answer["choices"][0]["message"]["tool_calls"]
tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "bash", "gen_ai.tool.call.id": call["id"]}
with tracer.start_as_current_span("execute_tool bash", attributes=tool):
    pass  # it says so, and does nothing
with tracer.start_as_current_span("execute_tool", attributes={**tool, "gen_ai.tool.call.id": "call_invented"}):
    pass
provider.shutdown()
"""
ANSWER = {
    "id": "chatcmpl-7",
    "object": "chat.completion",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_7", "type": "function", "function": {"name": "bash", "arguments": '{"command":"ls"}'}}
                ],
            },
        }
    ],
}


def test_what_an_agent_claims_stands_beside_the_turn_that_it_names(recorder: Recorder) -> None:
    with serving(Server()) as server:
        said = json.dumps(ANSWER).encode()
        server.routes["/v1/chat/completions"] = lambda handler: handler.answer(said, content_type="application/json")
        upstream = {"model.test": server.url}
        name, done = recorder.run(sys.executable, "-c", TELLING, mounts=python_mounts(), upstream=upstream)
    assert done.returncode == 0, done.stderr
    recorded(recorder.home, name)
    timeline = read_timeline(recorder.home, name)
    start, turn = timeline["turns"]
    assert start["claims"] == []
    assert [(claim["title"], claim["edge"]["confidence"]) for claim in turn["claims"]] == [
        ("chat", 0.95),
        ("execute_tool bash", 0.95),
    ]
    (odd,) = timeline["claims"]["unplaced"]
    assert odd["note"] == "no recorded decision of the model asked for this tool call"
    # Its telemetry is a connection like any other, explained, and neither a way around nor a hole in the account.
    assert [finding["verdict"] for finding in timeline["findings"]] == []
    assert timeline["gaps"] == []
    shown = [output for output in turn["outputs"] + timeline["unexplained"] if "4318" in output["object"]]
    assert all(output["edge"] for output in shown)
