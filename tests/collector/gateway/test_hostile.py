"""Input that is meant to do harm. After each of it the gateway goes on, and the record says what it was."""

from __future__ import annotations

import gzip
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandtrail.collector.gateway.bounds import MAX_FIELDS, MAX_HEAD
from tests.collector.gateway.harness import Gateway, wait_for
from tests.collector.gateway.upstream import Handler, Server

Clients = Callable[..., httpx.Client]


class GaveUpError(Exception):
    """The client had enough."""


def dial(proxy: str) -> socket.socket:
    parts = urlsplit(proxy)
    return socket.create_connection((str(parts.hostname), parts.port or 0), timeout=10)


def talk(proxy: str, *pieces: bytes) -> bytes:
    """Send, then read until the gateway hangs up or has nothing more to say."""
    with dial(proxy) as raw:
        raw.settimeout(3)
        got = b""
        try:
            for piece in pieces:
                raw.sendall(piece)
            raw.shutdown(socket.SHUT_WR)
            while data := raw.recv(65_536):
                got += data
        except (TimeoutError, ConnectionError):
            pass
        return got


@pytest.fixture(autouse=True)
def _alive(gateway: Gateway) -> Iterator[None]:
    """Every test ends with the same process serving another sandbox as if nothing had been."""
    pid = gateway.process.pid
    yield
    assert gateway.process.poll() is None
    assert gateway.process.pid == pid
    proxy = gateway.listen("bystander")
    with httpx.Client(proxy=proxy, timeout=10) as via:
        assert via.get("http://nobody-has-this.invalid/").status_code == 502
    assert gateway.ended("bystander").closed["exchanges"] == 1


POST = b"POST http://api.test/ HTTP/1.1\r\nHost: api.test\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = {
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "length and chunks": POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    "chunked in disguise": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "space before the colon": POST + b"Content-Length : 5\r\n\r\nhello",
    "bad chunk size": POST + CHUNKED + b"\r\nzz\r\n\r\n",
    "a header over two lines": POST + b"Content-Length: 0\r\nX: a\r\n Host: bad.test\r\n\r\n",
    "another transfer coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another version": POST.replace(b"HTTP/1.1", b"HTTP/2.0") + b"Content-Length: 0\r\n\r\n",
    "line break in a header": POST + b"X: a\rb\r\n\r\n",
}


@pytest.mark.parametrize("shape", SMUGGLED)
def test_smuggling_shapes_do_not_reach_the_server(gateway: Gateway, session: str, server: Server, shape: str) -> None:
    proxy = gateway.listen(session, upstream={"api.test": server.url})
    got = talk(proxy, SMUGGLED[shape])
    assert not got.startswith(b"HTTP/1.1 200")
    assert not any("smuggled" in asked.path for asked in server.asked)
    recorded = gateway.ended(session)
    assert recorded.of("error")
    assert recorded.of("close")


MALFORMED = {
    "no HTTP at all": b"\x00\x01\x02\x03" * 100 + b"\r\n\r\n",
    "no request line": b"\r\n\r\nHost: x\r\n\r\n",
    "bad version": b"GET http://api.test/ HTTP/9\r\n\r\n",
    "bad authority": b"CONNECT a:b:c:d HTTP/1.1\r\n\r\n",
    "port out of range": b"GET http://api.test:99999999/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "name that is none": b"GET http://" + b"a" * 300 + b".test/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "name of bytes": b"GET http://\xff\xfe\x00/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "empty labels": b"GET http://a..b/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "cleartext HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "half a request": b"GET http://api.test/ HTTP/1.1\r\nAuthorization: Bearer abc",
    "TLS in place of HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "CONNECT, then garbage": b"CONNECT api.test:443 HTTP/1.1\r\n\r\n" + b"\x16\x03\x01\xff\xff" + bytes(70_000),
    "CONNECT to port 0": b"CONNECT api.test:0 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "relative target": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("shape", MALFORMED)
def test_malformed_input_is_an_error_in_the_record(gateway: Gateway, session: str, server: Server, shape: str) -> None:
    talk(gateway.listen(session, upstream={"api.test": server.url}), MALFORMED[shape])
    recorded = gateway.ended(session)
    assert [frame for frame in recorded.frames if frame["t"] in ("error", "tls", "tcp")], recorded.frames
    assert recorded.of("close")[0]["up_bytes"] > 0
    assert any("client" in frame for frame in recorded.frames), "whose it was"


AMBIGUOUS = {
    "a URL for a path": {b":path": b"http://api.test/internal"},
    "a path that begins with nothing": {b":path": b"internal"},
    "a version in the path": {b":path": b"/docs HTTP/1.1 /internal"},
    "a target in the method": {b":method": b"GET /internal?"},
}


@pytest.mark.parametrize("shape", AMBIGUOUS)
def test_texts_of_http_2_do_not_become_another_line_of_http_1(
    gateway: Gateway, session: str, server: Server, shape: str
) -> None:
    """Whoever takes the parts of that line by its blanks would be asked for something else than was judged."""
    proxy = gateway.listen(session, upstream={"api.test": server.url}, rules={"deny": ["api.test/internal*"]})
    context = ssl.create_default_context(cafile=str(gateway.home / "gateway" / "mitmproxy-ca-cert.pem"))
    context.set_alpn_protocols(["h2"])
    speaker = h2.connection.H2Connection(
        h2.config.H2Configuration(header_encoding=None, validate_outbound_headers=False)
    )
    fields = {b":method": b"GET", b":scheme": b"https", b":authority": b"api.test", b":path": b"/docs"}
    speaker.initiate_connection()
    for stream, asked in ((1, fields), (3, fields | AMBIGUOUS[shape])):
        speaker.send_headers(stream, list(asked.items()), end_stream=True)
    status: dict[int, bytes] = {}
    with dial(proxy) as raw:
        raw.sendall(b"CONNECT api.test:443 HTTP/1.1\r\n\r\n")
        raw.recv(4096)
        with context.wrap_socket(raw, server_hostname="api.test") as tls:
            tls.sendall(speaker.data_to_send())
            ended = 0
            while ended < 2:
                for event in speaker.receive_data(tls.recv(65_536) or pytest.fail("hung up on")):
                    if isinstance(event, h2.events.ResponseReceived):
                        status[event.stream_id] = dict(event.headers)[b":status"]
                    ended += isinstance(event, h2.events.StreamEnded)
    assert status == {1: b"404", 3: b"400"}
    assert [asked.path for asked in server.asked] == ["/docs"]
    assert gateway.ended(session).one("error")["reason"] == "malformed"


PIECES = [
    b"GET http://api.test/ HTTP/1.1\r\n", POST, b"CONNECT api.test:80 HTTP/1.1\r\n", b"Host: api.test\r\n", CHUNKED,
    b"Content-Length: 4\r\n", b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"\r\n", b"4\r\nabcd\r\n",
    b"0\r\n\r\n", b"abcd",
]  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from(PIECES) | st.binary(max_size=30), max_size=12))
def test_any_sequence_of_pieces(gateway: Gateway, pieces: list[bytes]) -> None:
    name = "any-sequence"
    proxy = gateway.listen(name, upstream={"api.test": "http://127.0.0.1:1"})
    with dial(proxy) as raw:
        raw.settimeout(0.05)
        try:
            for piece in pieces:
                raw.sendall(piece)
            raw.recv(100)
        except (TimeoutError, ConnectionError):
            pass
    recorded = gateway.ended(name)
    assert len(recorded.of("close")) == 1
    assert recorded.of("close")[0]["up_bytes"] <= sum(map(len, pieces))


def memory(gateway: Gateway) -> int:
    """The process's resident bytes."""
    pages = int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_headers_without_an_end_are_cut_off(gateway: Gateway, session: str) -> None:
    before = memory(gateway)
    proxy = gateway.listen(session)
    with dial(proxy) as raw, pytest.raises(ConnectionError):
        raw.sendall(b"GET http://api.test/ HTTP/1.1\r\n")
        for n in range(100_000):
            raw.sendall(b"X-%d: " % n + b"y" * 1000 + b"\r\n")
    recorded = gateway.ended(session)
    assert recorded.one("error")["reason"] == "malformed"
    assert recorded.one("close")["up_bytes"] < MAX_HEAD + (8 << 20), "what the sockets held on top"
    assert memory(gateway) - before < 64 << 20


def test_a_head_of_very_many_fields_is_cut_off(gateway: Gateway, session: str) -> None:
    head = b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\n" + b"a:\r\n" * MAX_FIELDS + b"\r\n"
    assert len(head) < MAX_HEAD
    assert b" 400 " in talk(gateway.listen(session), head)
    assert gateway.ended(session).one("error")["reason"] == "malformed"


def test_a_response_head_without_an_end_is_cut_off(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    def flood(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100_000):
            handler.wfile.write(b"X: " + b"y" * 1000 + b"\r\n")

    server.routes["/"] = flood
    assert client(gateway.listen(session, upstream={"api.test": server.url})).get("http://api.test/").status_code == 502
    assert gateway.ended(session).one("error")


def test_a_chunk_header_without_an_end_is_cut_off(gateway: Gateway, session: str, server: Server) -> None:
    server.unread.add("/")
    server.routes["/"] = lambda h: h.answer(h.rfile.read(1 << 30))
    proxy = gateway.listen(session, upstream={"api.test": server.url})
    with dial(proxy) as raw, pytest.raises(ConnectionError):
        raw.sendall(b"POST http://api.test/ HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n5;")
        for _ in range(100_000):
            raw.sendall(b"x" * 1000)
    assert gateway.ended(session).of("error")


def test_an_endless_upload_costs_no_memory(gateway: Gateway, session: str, server: Server, client: Clients) -> None:
    server.unread.add("/up")

    def swallow(handler: Handler) -> None:
        while handler.rfile.read(1 << 16):
            pass

    server.routes["/up"] = swallow
    proxy = gateway.listen(session, upstream={"api.test": server.url})
    before, size = memory(gateway), 192 << 20

    def pieces() -> Iterator[bytes]:
        for _ in range(size >> 20):
            yield bytes(1 << 20)
        assert memory(gateway) - before < 96 << 20
        raise GaveUpError

    with pytest.raises(GaveUpError):
        client(proxy).post("http://api.test/up", content=pieces(), headers={"content-length": str(size + 1)})
    recorded = gateway.ended(session)
    assert len(recorded.streamed("request_chunk")) == 8 << 20
    assert recorded.of("request")[-1]["body_bytes"] == size
    assert recorded.of("request")[-1]["cut"]


def test_a_decompression_bomb_costs_no_memory(gateway: Gateway, session: str, server: Server, client: Clients) -> None:
    bomb = gzip.compress(bytes(16 << 20), 9) * 64
    server.routes["/bomb"] = lambda h: h.answer(bomb, content_encoding="gzip")
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    before = memory(gateway)
    with via.stream("GET", "http://api.test/bomb") as response:
        assert sum(map(len, response.iter_raw())) == len(bomb)
    assert memory(gateway) - before < 160 << 20
    answer = gateway.ended(session).of("response")[-1]
    assert (answer["cut"], answer["body_bytes"]) == (True, len(bomb))


def test_one_sandboxs_flood_does_not_stop_another(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    server.routes["/big"] = lambda h: h.answer(bytes(4 << 20))
    flooding = gateway.listen(f"{session}-flood", upstream={"api.test": server.url})
    calm = client(gateway.listen(session, upstream={"api.test": server.url}))
    stop = threading.Event()

    def flood() -> None:
        with httpx.Client(proxy=flooding, timeout=60) as via:
            while not stop.is_set():
                via.get("http://api.test/big")

    threads = [threading.Thread(target=flood, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        assert calm.get("http://api.test/").status_code == 404
    stop.set()
    for thread in threads:
        thread.join(60)
    assert len(gateway.ended(session).of("response")) == 30
    flood_record = gateway.ended(f"{session}-flood")
    assert flood_record.closed["exchanges"] == len(flood_record.of("request")) >= 6


def test_a_client_that_says_nothing_after_its_handshake(gateway: Gateway, session: str, client: Clients) -> None:
    parts = urlsplit(gateway.listen(session))
    raw = socket.create_connection((str(parts.hostname), parts.port or 0), timeout=10)
    raw.sendall(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\n\r\n")
    assert b"200" in raw.recv(4096)
    context = ssl.create_default_context(cafile=str(gateway.home / "gateway" / "mitmproxy-ca-cert.pem"))
    with context.wrap_socket(raw, server_hostname="api.test"):
        wait_for(lambda: gateway.recorded(session).of("tls"), "the handshake")
        recorded = gateway.ended(session)
    assert recorded.one("tls")["established"]
    assert recorded.of("request") == []


def test_many_small_requests_behind_one_another_hold_up_nobody_else(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    server.routes["/"] = lambda handler: handler.answer(b"fine")
    many = 1500
    noisy = gateway.listen(f"{session}-noisy")
    quiet = client(gateway.listen(f"{session}-quiet", upstream={"api.test": server.url}))
    assert quiet.get("http://api.test/").status_code == 200
    with dial(noisy) as connection:
        connection.settimeout(60)
        connection.sendall(b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * many)
        answers = connection.recv(1 << 16)
        assert quiet.get("http://api.test/").status_code == 200
        while answers.count(b" 403 ") < many:
            assert (more := connection.recv(1 << 16))
            answers += more
    refused = gateway.ended(f"{session}-noisy").of("error", reason="refused")
    asked = gateway.ended(f"{session}-quiet").of("request")[-1]
    assert len(refused) == many
    assert asked["start_ns"] < refused[-1]["at_ns"]
