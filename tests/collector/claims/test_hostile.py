"""What a sandbox can do to the receiver: nothing is lost without being counted, memory stays bounded, others go on."""

from __future__ import annotations

import gzip
import socket
import struct
import time
from pathlib import Path

import h2.config
import h2.connection
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandtrail.collector.claims.limits import CONNECTIONS, MAX_BODY
from tests.collector.claims.harness import Claims, GrpcSpans, HttpSpans, body, export_with, speaking
from tests.collector.gateway.harness import wait_for

PROTOBUF = {"content-type": "application/x-protobuf"}
BOMB = gzip.compress(bytes(100 << 20))


def memory(claims: Claims) -> int:
    """The most memory that the process has had."""
    status = Path(f"/proc/{claims.process.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


def still_works(claims: Claims, session: str, url: str) -> None:
    before = len(claims.exports(session))
    export_with(HttpSpans(f"{url}/v1/traces"), "still here")
    assert [frame["status"] for frame in claims.exports(session)[before:]] == [200]


def test_a_gzip_bomb_is_cut_and_said_to_be_too_large(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    before = memory(claims)
    answer = httpx.post(f"{url}/v1/traces", content=BOMB, headers={**PROTOBUF, "content-encoding": "gzip"}, timeout=60)
    assert answer.status_code == 413
    (frame,) = claims.exports(session)
    assert (frame["cut"], frame["decoded"], frame["body_bytes"]) == (True, True, len(BOMB))
    assert len(body(frame)) == MAX_BODY
    assert memory(claims) - before < 300 << 20
    still_works(claims, session, url)


def test_many_bombs_at_once_take_no_more_memory_than_a_few(claims: Claims, session: str) -> None:
    url = claims.listen(session, limits={"claims_rate": 1 << 30})
    before = memory(claims)
    head = "POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: gzip\r\n"
    request = f"{head}Content-Length: {len(BOMB)}\r\n\r\n".encode() + BOMB
    connections = [socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 60) for _ in range(8)]
    for raw in connections:
        raw.sendall(request)
    for raw in connections:
        with raw:
            assert raw.recv(100).startswith(b"HTTP/1.1 413")
    assert memory(claims) - before < 400 << 20


@pytest.mark.parametrize("head", ["Transfer-Encoding: chunked", f"Content-Length: {1 << 40}"])
def test_an_endless_body_is_cut_at_the_limit(claims: Claims, session: str, head: str) -> None:
    url = claims.listen(session)
    sent = 0
    with speaking(url) as raw:
        raw.sendall(
            f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n{head}\r\n\r\n".encode()
        )
        block = bytes(1 << 20)
        piece = b"100000\r\n" + block + b"\r\n" if "chunked" in head else block
        try:
            while sent < 4 * MAX_BODY:
                raw.sendall(piece)
                sent += len(block)
        except OSError:
            pass
        assert sent < 4 * MAX_BODY or raw.recv(100).startswith(b"HTTP/1.1 413")
    frame = wait_for(lambda: claims.exports(session))[0]
    assert (frame["cut"], frame["status"]) == (True, 413)
    assert len(body(frame)) == MAX_BODY < frame["body_bytes"] < 2 * MAX_BODY
    still_works(claims, session, url)


def test_a_message_over_the_limit_is_told_so_over_grpc(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    with speaking(url) as raw:
        client = _client(raw)
        _call(client, 1)
        sent = 0
        client.send_data(1, b"\0" + struct.pack(">I", 1 << 30))
        while sent < MAX_BODY:
            size = min(client.local_flow_control_window(1), client.max_outbound_frame_size, 1 << 20)
            if size:
                client.send_data(1, bytes(size))
                sent += size
            raw.sendall(client.data_to_send())
            if not size:
                client.receive_data(raw.recv(1 << 16))
        trailers = _trailers(raw, client)
    assert trailers[b"grpc-status"] == b"8"
    (frame,) = claims.exports(session)
    assert (frame["cut"], frame["status"], frame["protocol"]) == (True, 8, "grpc")


def _client(raw: socket.socket) -> h2.connection.H2Connection:
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    client.initiate_connection()
    raw.sendall(client.data_to_send())
    return client


def _call(client: h2.connection.H2Connection, stream: int, path: str = "trace.v1.TraceService/Export") -> None:
    head = [(":method", "POST"), (":scheme", "http"), (":path", f"/opentelemetry.proto.collector.{path}")]
    client.send_headers(stream, [*head, (":authority", "x"), ("content-type", "application/grpc"), ("te", "trailers")])


def _trailers(raw: socket.socket, client: h2.connection.H2Connection) -> dict[bytes, bytes]:
    """The last headers that come."""
    found: dict[bytes, bytes] = {}
    while b"grpc-status" not in found:
        data = raw.recv(1 << 16)
        assert data, "the connection ended without trailers"
        for event in client.receive_data(data):
            found |= dict(getattr(event, "headers", None) or [])
        raw.sendall(client.data_to_send())
    return found


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"", b"3"),
        (b"\0\0\0", b"3"),
        (b"\0\0\0\0\x09short", b"3"),
        (b"\x02\0\0\0\0", b"3"),
        (b"\0\0\0\0\x01a" * 2, b"3"),
        (b"\x01\0\0\0\x05plain", b"3"),
        (b"\0\0\0\0\0", b"0"),
    ],
    ids=["none", "half a head", "half a message", "unknown flag", "two messages", "not gzip", "an empty one"],
)
def test_grpc_messages_of_a_wrong_shape(claims: Claims, session: str, message: bytes, status: bytes) -> None:
    url = claims.listen(session)
    with speaking(url) as raw:
        client = _client(raw)
        _call(client, 1)
        client.send_data(1, message, end_stream=True)
        raw.sendall(client.data_to_send())
        assert _trailers(raw, client)[b"grpc-status"] == status
    assert [frame["status"] for frame in claims.exports(session)] == [int(status)]


def test_other_services_and_paths_are_recorded_and_refused(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    with speaking(url) as raw:
        client = _client(raw)
        _call(client, 1, "profiles.v1development.ProfilesService/Export")
        client.send_data(1, b"\0\0\0\0\x02hi", end_stream=True)
        raw.sendall(client.data_to_send())
        assert _trailers(raw, client)[b"grpc-status"] == b"12"
    assert httpx.post(f"{url}/v1/secrets", content=b"x", headers=PROTOBUF).status_code == 404
    assert httpx.get(f"{url}/v1/traces").status_code == 405
    assert httpx.post(f"{url}/v1/traces", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    assert [(frame["signal"], frame["status"]) for frame in claims.exports(session)] == [
        ("", 12),
        ("", 404),
        ("traces", 405),
        ("traces", 415),
    ]


def test_the_body_of_an_export_that_broke_off_is_kept_as_far_as_it_came(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    with speaking(url) as raw:
        raw.sendall(
            b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{half"
        )
    frame = wait_for(lambda: claims.exports(session))[0]
    assert (body(frame), frame["cut"], frame["status"]) == (b"{half", True, 400)
    with speaking(url) as raw:
        client = _client(raw)
        _call(client, 1)
        client.send_data(1, b"\0\0\0\0\x09half")
        raw.sendall(client.data_to_send())
        client.reset_stream(1)
        raw.sendall(client.data_to_send())
    frame = wait_for(lambda: claims.exports(session)[1:])[0]
    assert (body(frame), frame["cut"]) == (b"half", True)


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"POST /v1/traces HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" * 5000,
        b"\0" * 100_000,
    ],
    ids=["TLS", "header flood", "length", "smuggling", "broken frames", "settings flood", "zeros"],
)
def test_whatever_is_no_http_ends_its_own_connection_only(claims: Claims, session: str, said: bytes) -> None:
    url = claims.listen(session)
    with speaking(url) as raw:
        try:
            raw.sendall(said)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(1 << 16):
                pass
        except OSError:
            pass
    still_works(claims, session, url)
    recorded = claims.ended(session)
    assert len(recorded.of("close")) == recorded.closed["connections"] == 2
    assert recorded.closed["refused"] == len(recorded.of("refused")) <= 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.binary(max_size=200)
    | st.binary(max_size=200).map(lambda rest: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" + rest)
    | st.binary(max_size=200).map(lambda rest: b"POST /v1/traces HTTP/1.1\r\nHost: x\r\n" + rest)
)
def test_any_bytes(said: bytes, fuzzed: tuple[Claims, str]) -> None:
    claims, url = fuzzed
    with speaking(url) as raw:
        raw.sendall(said)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(1 << 16):
            pass
    assert claims.process.poll() is None


@pytest.fixture(scope="module")
def fuzzed(claims: Claims) -> tuple[Claims, str]:
    return claims, claims.listen("fuzzed")


def test_beyond_so_many_connections_more_are_turned_away_and_counted(claims: Claims, session: str) -> None:
    url = claims.listen(session)
    held = [socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 15) for _ in range(CONNECTIONS)]
    try:
        one_more = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 15)
        with one_more:
            assert one_more.recv(10) == b""
        (refused,) = claims.recorded(session).of("refused")
        assert refused["reason"] == f"{CONNECTIONS} connections are open"
    finally:
        for raw in held:
            raw.close()
    wait_for(lambda: len(claims.recorded(session).of("close")) == CONNECTIONS + 1)
    still_works(claims, session, url)


def test_slow_senders_do_not_hold_up_other_sandboxes(claims: Claims, session: str) -> None:
    slow = claims.listen(session)
    held = []
    for _ in range(20):
        raw = socket.create_connection(("127.0.0.1", int(slow.rpartition(":")[2])), 15)
        raw.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        held.append(raw)
    other = claims.listen(f"{session}-other")
    began = time.monotonic()
    export_with(GrpcSpans(other, insecure=True), "quick")
    assert time.monotonic() - began < 10
    assert len(claims.exports(f"{session}-other")) == 1
    for raw in held:
        raw.sendall(b"x")
    ended = claims.ended(session)
    for raw in held:
        raw.close()
    assert ended.closed["connections"] == 20
    assert [frame["cut"] for frame in ended.of("export")] == [True] * 20
