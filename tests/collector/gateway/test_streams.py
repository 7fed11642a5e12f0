"""Bodies that are passed on as they come: nothing held up, everything recorded, cut ones too."""

from __future__ import annotations

import gzip
import hashlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest

from tests.collector.gateway.harness import Gateway, body, wait_for
from tests.collector.gateway.upstream import Handler, Server

Clients = Callable[..., httpx.Client]
EVENTS = [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"]


def begin_events(handler: Handler, **headers: str) -> None:
    handler.head(200, **{"content-type": "text/event-stream", "transfer-encoding": "chunked"}, **headers)


def test_each_event_reaches_the_client_before_the_server_sends_the_next(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    # The server goes on only when the client has what it sent: anything that is held up would hang both.
    received = threading.Semaphore(0)

    def events(handler: Handler) -> None:
        begin_events(handler)
        for event in EVENTS:
            handler.chunk(event)
            assert received.acquire(timeout=10)
        handler.chunk(b"")

    server.routes["/stream"] = events
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    got = []
    with via.stream("POST", "http://api.test/stream", content=b"{}") as response:
        for piece in response.iter_raw():
            got.append(piece)
            chunks = gateway.recorded(session).of("chunk")
            assert body(chunks[-1], "data") == piece, "it is recorded before it is passed on"
            received.release()
    assert got == EVENTS

    recorded = gateway.ended(session)
    chunks = recorded.of("chunk")
    assert [body(chunk, "data") for chunk in chunks] == EVENTS
    assert [chunk["n"] for chunk in chunks] == [0, 1, 2]
    assert [chunk["at_ns"] for chunk in chunks] == sorted(chunk["at_ns"] for chunk in chunks)
    head, end = recorded.of("response")
    assert head["seq"] < chunks[0]["seq"] < end["seq"]
    assert (head["status"], head["stream"], "end_ns" in head) == (200, True, False)
    assert (end["status"], end["stream"], end["cut"], end["chunks"]) == (200, True, False, 3)
    assert end["body_bytes"] == sum(map(len, EVENTS))
    assert end["body_sha256"] == hashlib.sha256(b"".join(EVENTS)).hexdigest()
    assert end["end_ns"] >= chunks[-1]["at_ns"]


def test_a_stream_over_http2(gateway: Gateway, session: str, secure_server: Server) -> None:
    def events(handler: Handler) -> None:
        begin_events(handler)
        for event in EVENTS:
            handler.chunk(event)
        handler.chunk(b"")

    secure_server.routes["/stream"] = events
    proxy = gateway.listen(session, upstream={"api.test": secure_server.secure_url})
    trusted = str(gateway.home / "gateway" / "mitmproxy-ca-cert.pem")
    url = "https://api.test/stream"
    command = ["curl", "-sN", "--http2", "--max-time", "15", "--proxy", proxy, "--cacert", trusted, url]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"".join(EVENTS)
    recorded = gateway.ended(session)
    assert recorded.streamed() == b"".join(EVENTS)
    assert recorded.one("request")["http_version"] == "HTTP/2.0"


def test_a_stream_that_the_server_breaks_off(gateway: Gateway, session: str, server: Server, client: Clients) -> None:
    def broken(handler: Handler) -> None:
        begin_events(handler)
        handler.chunk(EVENTS[0])
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    server.routes["/stream"] = broken
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    with pytest.raises(httpx.RemoteProtocolError):
        via.get("http://api.test/stream")
    recorded = gateway.ended(session)
    assert recorded.streamed() == EVENTS[0]
    error = recorded.one("error")
    assert (error["cut"], error["body_bytes"], error["chunks"]) == (True, len(EVENTS[0]), 1)
    assert "end_ns" not in recorded.one("response")


def test_a_stream_that_the_client_walks_away_from(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    gone = threading.Event()

    def endless(handler: Handler) -> None:
        begin_events(handler)
        try:
            while not gone.wait(0.005):
                handler.chunk(EVENTS[1])
        except OSError:
            gone.set()

    server.routes["/stream"] = endless
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    with via.stream("GET", "http://api.test/stream") as response:
        first = next(response.iter_raw())
    error = wait_for(lambda: gateway.recorded(session).of("error"), "the error")[0]
    assert gone.wait(10), "the gateway hangs up on the server too"
    recorded = gateway.ended(session)
    assert recorded.streamed().startswith(first)
    assert error["cut"]
    assert error["body_bytes"] == len(recorded.streamed())


def test_a_whole_response_that_breaks_off(gateway: Gateway, session: str, server: Server, client: Clients) -> None:
    def short(handler: Handler) -> None:
        handler.head(content_length="1000")
        handler.wfile.write(b"only this")
        handler.close_connection = True

    server.routes["/short"] = short
    with pytest.raises(httpx.RemoteProtocolError):
        client(gateway.listen(session, upstream={"api.test": server.url})).get("http://api.test/short")
    recorded = gateway.ended(session)
    answer = recorded.one("response")
    assert (body(answer), answer["cut"], "end_ns" in answer) == (b"only this", True, False)
    assert recorded.one("error")["id"] == answer["id"]


def test_a_compressed_stream_is_recorded_decoded(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    wire = gzip.compress(b"".join(EVENTS))

    def events(handler: Handler) -> None:
        begin_events(handler, content_encoding="gzip")
        for start in range(0, len(wire), 7):
            handler.chunk(wire[start : start + 7])
        handler.chunk(b"")

    server.routes["/stream"] = events
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    assert via.get("http://api.test/stream").content == b"".join(EVENTS)
    recorded = gateway.ended(session)
    assert recorded.streamed() == b"".join(EVENTS)
    assert all(chunk["decoded"] for chunk in recorded.of("chunk"))
    end = recorded.of("response")[-1]
    assert (end["decoded"], end["body_bytes"]) == (True, len(wire))
    assert end["body_sha256"] == hashlib.sha256(wire).hexdigest()


def test_a_body_until_the_connection_closes(gateway: Gateway, session: str, server: Server, client: Clients) -> None:
    def until_close(handler: Handler) -> None:
        handler.head(connection="close")
        handler.wfile.write(b"to the end")
        handler.close_connection = True

    server.routes["/"] = until_close
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    assert via.get("http://api.test/").text == "to the end"
    recorded = gateway.ended(session)
    assert recorded.streamed() == b"to the end"
    assert recorded.of("response")[-1]["cut"] is False


def test_a_response_over_the_cap_passes_whole_and_is_kept_in_part(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    large = bytes(range(256)) * 2048
    server.routes["/known"] = lambda h: h.answer(large)

    def unknown(handler: Handler) -> None:
        handler.head(transfer_encoding="chunked")
        for start in range(0, len(large), 50_000):
            handler.chunk(large[start : start + 50_000])
        handler.chunk(b"")

    server.routes["/unknown"] = unknown
    proxy = gateway.listen(session, upstream={"api.test": server.url}, limits={"response_body": 100_000})
    via = client(proxy)
    for path in ("known", "unknown"):
        assert via.get(f"http://api.test/{path}").content == large
    recorded = gateway.ended(session)
    for request in recorded.of("request"):
        chunks = b"".join(body(c, "data") for c in recorded.of("chunk", id=request["id"]))
        end = recorded.of("response", id=request["id"])[-1]
        assert chunks == large[:100_000]
        assert (end["cut"], end["body_bytes"]) == (True, len(large))
        assert end["body_sha256"] == hashlib.sha256(large).hexdigest()


def test_a_request_over_the_cap_passes_whole_and_is_kept_in_part(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    large = bytes(range(256)) * 2048
    server.routes["/up"] = lambda h: h.answer(b"thanks")
    proxy = gateway.listen(session, upstream={"api.test": server.url}, limits={"request_body": 100_000})
    assert client(proxy).post("http://api.test/up", content=large).text == "thanks"
    assert server.asked[0].body == large
    recorded = gateway.ended(session)
    assert recorded.streamed("request_chunk") == large[:100_000]
    head, end = recorded.of("request")
    assert (head["stream"], "end_ns" in head) == (True, False)
    assert (end["cut"], end["body_bytes"]) == (True, len(large))
    assert end["body_sha256"] == hashlib.sha256(large).hexdigest()


def test_an_upload_of_unknown_length_is_recorded_as_it_goes(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    server.routes["/up"] = lambda h: h.answer(b"thanks")
    proxy = gateway.listen(session, upstream={"api.test": server.url})

    def recorded_pieces(count: int) -> bool:
        return len(gateway.recorded(session).of("request_chunk")) == count

    def pieces() -> Iterator[bytes]:
        for n in range(3):
            yield b"piece %d;" % n
            wait_for(partial(recorded_pieces, n + 1), "the piece's frame")

    assert client(proxy).post("http://api.test/up", content=pieces()).text == "thanks"
    assert server.asked[0].body == b"piece 0;piece 1;piece 2;"
    recorded = gateway.ended(session)
    assert recorded.streamed("request_chunk") == server.asked[0].body
    end = recorded.of("request")[-1]
    assert (end["chunks"], end["cut"], end["body_bytes"]) == (3, False, 24)


def test_an_upload_that_breaks_off_is_recorded_as_far_as_it_came(
    gateway: Gateway, session: str, server: Server
) -> None:
    server.unread.add("/up")
    server.routes["/up"] = lambda h: print(h.rfile.read(10_000))
    proxy = urlsplit(gateway.listen(session, upstream={"api.test": server.url}))
    with socket.create_connection((str(proxy.hostname), proxy.port or 0)) as raw:
        raw.sendall(b"POST http://api.test/up HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.sendall(b"5\r\nhello\r\n")
        wait_for(lambda: gateway.recorded(session).of("request_chunk"), "the piece")
    wait_for(lambda: gateway.recorded(session).of("error"), "the error")
    recorded = gateway.ended(session)
    assert recorded.streamed("request_chunk") == b"hello"
    assert recorded.of("request")[-1]["cut"]


@pytest.mark.parametrize("finishes", [True, False])
def test_a_server_that_answers_before_it_has_heard_all(
    gateway: Gateway, session: str, server: Server, finishes: bool
) -> None:
    server.unread.add("/up")
    heard: list[bytes] = []

    def answer_first(handler: Handler) -> None:
        handler.answer(b"enough", 413)
        heard.append(handler.read_body())

    server.routes["/up"] = answer_first
    proxy = urlsplit(gateway.listen(session, upstream={"api.test": server.url}))
    with socket.create_connection((str(proxy.hostname), proxy.port or 0), timeout=10) as raw:
        raw.sendall(b"POST http://api.test/up HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.sendall(b"5\r\nfirst\r\n")
        got = b""
        while not got.endswith(b"enough"):
            got += raw.recv(4096)
        if finishes:
            raw.sendall(b"4\r\nlast\r\n0\r\n\r\n")
            wait_for(lambda: heard, "the rest")
    wait_for(lambda: gateway.recorded(session).of("close"), "the end")
    recorded = gateway.ended(session)
    assert recorded.streamed("request_chunk") == (b"firstlast" if finishes else b"first")
    assert recorded.of("request")[-1]["cut"] is not finishes
    assert recorded.one("response")["status"] == 413
    assert recorded.closed["exchanges"] == 1


def test_single_byte_chunks_do_not_make_a_frame_each(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    def drip(handler: Handler) -> None:
        begin_events(handler)
        handler.wfile.write(b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")

    server.routes["/drip"] = drip
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    assert via.get("http://api.test/drip").content == b"x" * 10_000
    recorded = gateway.ended(session)
    assert recorded.streamed() == b"x" * 10_000
    assert len(recorded.of("chunk")) < 200
