"""An export's bytes to its items: both encodings alike, anything else counted and never raised."""

from __future__ import annotations

import base64
import gzip
import json
import time
import tracemalloc
from typing import Any

import cbor2
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sandtrail.replay.claims.item import MAX_ITEMS
from sandtrail.replay.claims.otlp_json import MAX_GROUPS, read_json
from sandtrail.replay.decode.decoder import Decoder
from sandtrail.replay.decode.otlp import claim_events
from sandtrail.replay.decode.text import MAX_DETAIL, to_json
from sandtrail.replay.decode.tree import describe
from sandtrail.store.frames import Kind
from tests.replay.claims.exports import FIXTURES, claims, frame

REQUESTS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}


def as_json(signal: str, body: bytes) -> bytes:
    """A request in OTLP/JSON, by protobuf's own mapping but for the ids."""

    def ids(held: Any) -> Any:
        if isinstance(held, list):
            return [ids(one) for one in held]
        if not isinstance(held, dict):
            return held
        return {
            key: base64.b64decode(one).hex() if key in ("traceId", "spanId", "parentSpanId") else ids(one)
            for key, one in held.items()
        }

    return json.dumps(ids(MessageToDict(REQUESTS[signal].FromString(body)))).encode()


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.bin")), ids=lambda path: path.stem)
def test_json_and_protobuf_say_the_same(path: Any) -> None:
    signal = path.stem.rpartition(".")[2]
    body = path.read_bytes()
    told = claims(frame(as_json(signal, body), signal, "http/json"))
    assert told == claims(frame(body, signal))
    assert told


def test_an_export_is_counted_before_what_it_holds() -> None:
    first, *rest = claim_events(frame((FIXTURES / "genai-2.logs.bin").read_bytes(), "logs", end_ns=5))
    assert first[:4] == ("claim.export", 5, "logs", 8)
    assert [event[0] for event in rest] == ["claim.log"] * 8


def test_metrics_are_counted_by_their_points() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="tokens", unit="1")
    for number in range(3):
        metric.sum.data_points.add(as_int=number)
    for body, protocol in (
        (request.SerializeToString(), "grpc"),
        (as_json("metrics", request.SerializeToString()), "http/json"),
    ):
        (_, event) = claim_events(frame(body, "metrics", protocol))
        assert (event[0], event[2], event[3], event[4]["type"]) == ("claim.metric", "tokens", 3, "sum")


def test_fields_that_are_not_known_are_counted() -> None:
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a", "mood": "good"}]}]}], "more": 1}
    (export, _) = claim_events(frame(json.dumps(document).encode(), protocol="http/json"))
    assert export[4]["not_understood"] == {"span.mood": 1}
    request = ExportTraceServiceRequest()
    spanned = request.resource_spans.add().scope_spans.add()
    spanned.spans.add(name="a").ParseFromString(b"\x2a\x01a\xf8\x07\x01")  # field 127, which is nobody's
    (export, _) = claim_events(frame(request.SerializeToString()))
    assert export[4]["not_understood"] == {"unknown fields of a Span": 1}


def test_a_body_that_was_cut_off_yields_what_came_before() -> None:
    request = ExportTraceServiceRequest()
    scoped = request.resource_spans.add().scope_spans.add()
    for number in range(100):
        scoped.spans.add(name=f"span {number}" + "x" * 100)
    whole = request.SerializeToString()
    # The lengths of what it is in are those of the whole.
    (export, *found) = claim_events(frame(whole[: len(whole) // 2], cut=True))
    assert export[4]["cut"] is True
    assert export[4]["not_understood"] == {"a message that breaks off": 3}
    assert 40 < len(found) < 60


def test_beyond_the_cap_items_are_counted_only() -> None:
    request = ExportTraceServiceRequest()
    scoped = request.resource_spans.add().scope_spans.add()
    for _ in range(MAX_ITEMS + 10):
        scoped.spans.add(name="a")
    (export, *found) = claim_events(frame(request.SerializeToString()))
    assert (export[3], export[4]["left_out"], len(found)) == (MAX_ITEMS + 10, 10, MAX_ITEMS)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize(
    ("body", "protocol", "encoding"),
    [
        (gzip.compress(bytes(100 << 20)), "http/protobuf", "gzip"),
        (gzip.compress(b"[" * (100 << 20)), "http/json", "gzip"),
        (b"\x0a" + _varint((8 << 20) + 5) + b"\x12" + _varint(8 << 20) + b"\x12\x00" * (4 << 20), "grpc", ""),
    ],
    ids=["a gzip bomb", "a gzip bomb of brackets", "four million empty spans"],
)
def test_a_bomb_takes_little_time_and_memory(body: bytes, protocol: str, encoding: str) -> None:
    payload = frame(body, protocol=protocol, encoding=encoding)
    tracemalloc.start()
    began = time.monotonic()
    events = claim_events(payload)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert events[0][0] == "claim.export"
    assert peak < 200 << 20
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{", b"[" * 100_000, b'{"t":"mystery"}', b'{"t":"export"}', b'{"t":"export","signal":["traces"]}'],
)
def test_a_frame_that_is_none_is_told_as_such(payload: bytes) -> None:
    (event,) = claim_events(payload)
    assert event[0] in ("unknown", "claim.export")


NAMES = st.sampled_from(
    [
        *(
            "resourceSpans",
            "scopeSpans",
            "spans",
            "attributes",
            "key",
            "value",
            "stringValue",
            "intValue",
            "arrayValue",
        ),
        *("kvlistValue", "values", "resource", "scope", "name", "events", "status", "code", "traceId", "body", "parts"),
        *("role", "content", "tool_calls", "function", "type", "message", "arguments", "gen_ai.input.messages"),
    ]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(
    [
        *("gen_ai.operation.name", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"),
        *("gen_ai.prompt.0.content", "gen_ai.completion.0.tool_calls.99999.id", "gen_ai.prompt.7.tool_calls.3.name"),
        *("llm.input_messages.0.message.tool_calls.0.tool_call.id", "openinference.span.kind", "output.value"),
        *("gen_ai.usage.input_tokens", "gen_ai.response.finish_reasons", "traceloop.entity.output", "tool.name", "x"),
    ]
)


def checked(payload: bytes) -> None:
    """Events of it can be kept as rows, and its fields be shown, whatever it was."""
    json.dumps(describe("claims", Kind.DATA, payload), ensure_ascii=False).encode()
    for kind, _, thing, _, detail in claim_events(payload):
        assert kind.startswith(("claim.", "unknown"))
        thing.encode()
        kept = to_json(detail)
        kept.encode()
        assert len(kept) <= MAX_DETAIL + 4096
        json.loads(kept)


@given(body=st.binary(max_size=300), signal=st.sampled_from(sorted(REQUESTS)))
def test_any_bytes_as_protobuf(body: bytes, signal: str) -> None:
    checked(frame(body, signal))


@given(document=anything, signal=st.sampled_from(sorted(REQUESTS)))
def test_any_json(document: Any, signal: str) -> None:
    checked(frame(json.dumps(document).encode(), signal, "http/json"))


@given(told=st.lists(st.tuples(KEYS, anything), max_size=6), name=st.text(max_size=10))
def test_any_values_of_known_attributes(told: list[tuple[str, Any]], name: str) -> None:
    as_text = [{"key": key, "value": {"stringValue": json.dumps(held)}} for key, held in told]
    as_value = [{"key": key, "value": held} for key, held in told]
    for attributes in (as_text, as_value):
        one = {"name": name, "attributes": attributes, "events": [{"name": "gen_ai.choice", "attributes": attributes}]}
        document = {"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}
        checked(frame(json.dumps(document).encode(), protocol="http/json"))


@given(
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
    name=st.sampled_from(sorted(path.stem for path in FIXTURES.glob("*.bin"))),
)
def test_real_exports_with_damaged_bytes(damage: list[tuple[int, int]], name: str) -> None:
    body = bytearray((FIXTURES / f"{name}.bin").read_bytes())
    for place, byte in damage:
        body[place % len(body)] = byte
    checked(frame(bytes(body), name.rpartition(".")[2]))


def test_whoever_looks_at_the_evidence_sees_what_the_export_holds() -> None:
    tree = describe("claims", Kind.DATA, frame((FIXTURES / "genai-2.logs.bin").read_bytes(), "logs"))
    assert tree["items_total"] == 8
    assert tree["items"][0]["name"] == "gen_ai.system.message"
    assert tree["items"][0]["body"] == {"content": "You are careful."}
    assert "body" not in tree
    assert describe("claims", Kind.DATA, b'{"t":"close","port":4317}') == {"t": "close", "port": 4317}


def test_the_decoder_gives_the_events_of_a_claims_stream_their_rows() -> None:
    decoder, rows = Decoder(), list[Any]()
    decoder.feed(1, 0, 7, 0, Kind.OPEN, 1, cbor2.dumps({"source": "claims", "session": "s", "sandbox": "b"}), rows)
    decoder.feed(1, 1, 7, 1, Kind.DATA, 99, frame((FIXTURES / "genai-1.traces.bin").read_bytes()), rows)
    kinds = [row[4] for row in rows]
    assert kinds == ["stream.open", "claim.export", "claim.span", "claim.span"]
    assert [row[0] for row in rows[1:]] == ["1.1"] * 3
    assert {row[5] for row in rows[1:]} == {99}, "the agent's clock is not believed"


@pytest.mark.parametrize(
    "text",
    [
        '{"resourceSpans": [%s]}',
        '{"resourceSpans": [{"scopeSpans": [%s]}]}',
        '{"resourceSpans": [{}, {"scopeSpans": [%s]}, {}]}',
    ],
)
def test_of_very_many_empty_groups_only_so_many_are_read_and_that_is_told(text: str) -> None:
    found = read_json("traces", (text % ",".join(["{}"] * (MAX_GROUPS + 1))).encode())
    assert found.problems["more resources and scopes than are read"] >= 1
    assert found.items == []
