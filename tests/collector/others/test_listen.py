"""Records that are sent to us: acknowledged when they are in the spool, and never more memory than is allowed."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # it has no type hints
import httpx
import pytest

from sandtrail.collector.others.accesslogs import METHOD, identity
from sandtrail.collector.others.intake import Binding, Intake
from sandtrail.collector.others.listen import Listener, parse_address
from sandtrail.collector.others.sources import source_named
from sandtrail.errors import StoreError, UsageError
from tests.collector.gateway.harness import wait_for
from tests.collector.others.spooled import Spooled

SECRET = b"sk-ant-api03-0123456789abcdefghijABCDEFGHIJ"


@contextmanager
def listening(home: Path, source: str, by: str = "") -> Iterator[tuple[str, Intake]]:
    """A listener in a thread of its own; yields its address."""
    intake = Intake(home, source_named(source), Binding(by=by))
    told: list[str] = []
    ends: list[Callable[[], object]] = []

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(stop.set))
        await Listener(intake).run("127.0.0.1", 0, stop, told.append)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield wait_for(lambda: told, "the listener")[0], intake
    finally:
        ends[0]()
        thread.join(30)
        intake.close("stopped")


@pytest.fixture
def spooled(tmp_path: Path) -> Spooled:
    return Spooled(tmp_path / "home")


@pytest.mark.parametrize("form", ["array", "ndjson", "single", "gzip"])
def test_a_batch_in_every_form_of_the_callback_is_records_one_by_one(spooled: Spooled, form: str) -> None:
    records = [{"call_type": "acompletion", "n": n} for n in range(1 if form == "single" else 3)]
    body = "\n".join(map(json.dumps, records)) if form == "ndjson" else json.dumps(records)
    data = gzip.compress(body.encode()) if form == "gzip" else body.encode()
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if form == "gzip" else {})
    with listening(spooled.home, "litellm") as (url, _):
        assert httpx.post(url, content=data, headers=headers).status_code == 200
        assert [json.loads(record) for record in spooled.records("litellm")] == records


def test_what_could_not_be_recorded_is_not_acknowledged_and_becomes_a_gap(spooled: Spooled) -> None:
    with listening(spooled.home, "litellm") as (url, intake):
        assert httpx.post(url, json=[{"n": 0}]).status_code == 200
        stream = intake._stream("litellm").stream
        write = stream.write

        def full(*_: Any, **__: Any) -> int:
            raise StoreError("no space left on device")

        stream.write = full  # type: ignore[method-assign]
        assert httpx.post(url, json=[{"n": 1}]).status_code == 503
        stream.write = write  # type: ignore[method-assign]
        assert httpx.post(url, json=[{"n": 2}]).status_code == 200
    assert [json.loads(record)["n"] for record in spooled.records("litellm")] == [0, 2]
    assert [(note["note"], note["count"]) for note in spooled.read()[1]] == [("gap", 1)]


def test_what_is_no_json_is_kept_and_said_to_be_none(spooled: Spooled) -> None:
    with listening(spooled.home, "litellm") as (url, _):
        assert httpx.post(url, content=b'[{"n": 1}, oops').status_code == 200
        assert httpx.get(url).status_code == 405
    frames = spooled.read()[0]["litellm"]
    assert [frame.get("malformed") for frame in frames] == [None, True]


def test_a_request_that_is_too_large_is_refused_and_told_as_a_gap(spooled: Spooled) -> None:
    with listening(spooled.home, "litellm") as (url, _):
        assert httpx.post(url, content=b" " * (17 << 20)).status_code == 413
    assert [note["note"] for note in spooled.read()[1]] == ["gap"]


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(node: bytes = b"", path: bytes = b"/") -> bytes:
    """A StreamAccessLogsMessage: who speaks, and one HTTP request."""
    said = field(1, field(1, field(1, node)) + field(2, b"log")) if node else b""
    request = field(3, b"\x08\x01" + field(3, b"h") + field(5, path))
    return said + field(2, field(1, request))


def raw(value: bytes) -> bytes:
    return value


def test_a_call_is_recorded_message_by_message_while_it_lasts(spooled: Spooled) -> None:
    go_on = threading.Event()

    def messages() -> Iterator[bytes]:
        yield message(b"agent-1")
        go_on.wait(30)
        yield message(path=b"/?api_key=" + SECRET)

    with listening(spooled.home, "envoy", "identifier.node.id") as (url, _):
        with grpc.insecure_channel(url.removeprefix("http://")) as channel:
            call = channel.stream_unary(METHOD, request_serializer=raw, response_deserializer=raw).future(messages())
            wait_for(lambda: spooled.records("agent-1"), "the first message")
            go_on.set()
            assert call.result(30) == b""
        first, second = spooled.records("agent-1")
        assert first == message(b"agent-1")
        assert len(second) == len(message(path=b"/?api_key=" + SECRET))
        assert SECRET not in second


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"\x01" + struct.pack(">I", 2) + b"xx", "compressed"),
        (b"\x00" + struct.pack(">I", 1 << 30), "more than is kept"),
    ],
)
def test_a_call_that_breaks_the_rules_is_ended_and_others_go_on(spooled: Spooled, frame: bytes, why: str) -> None:
    with listening(spooled.home, "envoy") as (url, _):
        with httpx.Client(http1=False, http2=True) as client:
            head = {"Content-Type": "application/grpc", "TE": "trailers"}
            answer = client.post(url + METHOD, content=frame, headers=head)
            assert answer.headers["grpc-status"] != "0"
        with grpc.insecure_channel(url.removeprefix("http://")) as channel:
            ask = channel.stream_unary(METHOD, request_serializer=raw, response_deserializer=raw)
            ask(iter([message(b"n")]), timeout=30)
            with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
                channel.unary_unary("/some.Other/Call", request_serializer=raw, response_deserializer=raw)(
                    b"", timeout=30
                )
    assert any(why in note["cause"] for note in spooled.read()[1])
    assert len(spooled.records("envoy")) == 1


def test_who_speaks_is_read_from_whatever_the_bytes_are() -> None:
    assert identity(message(b"agent-1")) == {"log_name": "log", "node": {"id": "agent-1"}}
    for data in (b"", b"\xff" * 20, b"\x0a\xff\xff\xff\xff\x0f", field(1, b"\x0a"), base64.b64decode("CgA=")):
        identity(data)


@pytest.mark.parametrize("text", ["4320", "host:", ":1", "h:99999", "h:x"])
def test_an_address_that_is_none_is_told_as_such(text: str) -> None:
    with pytest.raises(UsageError, match="an address and a port"):
        parse_address(text)
