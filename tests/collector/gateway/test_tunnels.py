"""WebSockets, and tunnels that are no HTTP."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.collector.gateway.harness import Gateway, Recorded, body, wait_for
from tests.collector.gateway.upstream import Trust


@contextmanager
def websocket_echo(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Echoes messages; a message "bye" closes with a code of its own."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            if message == "bye":
                connection.close(4000, "so long")
                return
            connection.send(message)

    with serve(echo, "127.0.0.1", 0, ssl=tls, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def messages(recorded: Recorded) -> list[tuple[str, str, bytes]]:
    return [(f["from"], f["kind"], body(f, "data")) for f in recorded.of("websocket") if f["kind"] != "close"]


@pytest.mark.parametrize("secure", [False, True])
def test_websocket_messages_are_recorded_both_ways(gateway: Gateway, session: str, trust: Trust, secure: bool) -> None:
    with websocket_echo(trust.context if secure else None) as port:
        base = f"{'https' if secure else 'http'}://localhost:{port}"
        proxy = gateway.listen(session, upstream={"api.test": base})
        context = ssl.create_default_context(cafile=str(gateway.home / "gateway" / "mitmproxy-ca-cert.pem"))
        options: dict[str, Any] = {"ssl": context} if secure else {}
        url = f"{'wss' if secure else 'ws'}://api.test/v1/responses"
        with connect(url, proxy=proxy, **options) as connection:
            for message in ("hello", b"\x00\xff"):
                connection.send(message)
                assert connection.recv() == message
            connection.send("bye")
            with pytest.raises(ConnectionClosed):
                connection.recv()
        wait_for(lambda: gateway.recorded(session).of("websocket", kind="close"), "the close")
        recorded = gateway.ended(session)
    assert messages(recorded) == [
        ("client", "text", b"hello"),
        ("server", "text", b"hello"),
        ("client", "binary", b"\x00\xff"),
        ("server", "binary", b"\x00\xff"),
        ("client", "text", b"bye"),
    ]
    end = recorded.one("websocket", kind="close")
    assert (end["code"], end["reason"], end["from"]) == (4000, "so long", "server")
    assert recorded.of("response")[-1]["status"] == 101
    assert recorded.of("websocket")[0]["sha256"] == hashlib.sha256(b"hello").hexdigest()


def test_compressed_messages_are_recorded_plain(gateway: Gateway, session: str) -> None:
    words = "the same words " * 400
    with websocket_echo() as port:
        proxy = gateway.listen(session, upstream={"api.test": f"http://127.0.0.1:{port}"})
        with connect("ws://api.test/v1/responses", proxy=proxy, compression="deflate") as connection:
            assert [type(one) for one in connection.protocol.extensions] == [PerMessageDeflate]
            connection.send(words)
            # A message in pieces is one message.
            connection.send(iter([words[:7], words[7:]]))
            assert [connection.recv(), connection.recv()] == [words, words]
        recorded = gateway.ended(session)
    found = [(way, "text", words.encode()) for way in ("client", "server") * 2]
    assert sorted(messages(recorded)) == sorted(found)
    assert {frame["bytes"] for frame in recorded.of("websocket", kind="text")} == {len(words)}


def test_control_frames_that_carry_something_are_recorded_before_they_pass(gateway: Gateway, session: str) -> None:
    with websocket_echo() as port:
        proxy = gateway.listen(session, upstream={"api.test": f"http://127.0.0.1:{port}"})
        with connect("ws://api.test/", proxy=proxy) as connection:
            assert connection.ping(b"bytes in a ping").wait(10)
            connection.pong(b"unasked")
            connection.pong(b"")
            connection.send("over")
            assert connection.recv() == "over"
            connection.close(4001, "bytes in a close")
        wait_for(lambda: gateway.recorded(session).of("websocket", kind="close"), "the close")
        recorded = gateway.ended(session)
    assert messages(recorded) == [
        ("client", "ping", b"bytes in a ping"),
        ("server", "pong", b"bytes in a ping"),
        ("client", "pong", b"unasked"),
        ("client", "text", b"over"),
        ("server", "text", b"over"),
    ]
    assert recorded.one("websocket", kind="close")["reason"] == "bytes in a close"


def test_a_websocket_message_over_the_cap_is_kept_in_part(gateway: Gateway, session: str) -> None:
    with websocket_echo() as port:
        limits = {"response_body": 1000}
        proxy = gateway.listen(session, upstream={"api.test": f"http://127.0.0.1:{port}"}, limits=limits)
        with connect("ws://api.test/", proxy=proxy, max_size=None) as connection:
            connection.send("x" * 300_000)
            assert connection.recv() == "x" * 300_000
        recorded = gateway.ended(session)
    sent = recorded.one("websocket", kind="text", **{"from": "client"})
    assert (sent["bytes"], sent["cut"], len(body(sent, "data"))) == (300_000, True, 1000)


def test_a_websocket_message_without_an_end_is_refused(gateway: Gateway, session: str) -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "x" * 65_536

    with websocket_echo() as port:
        proxy = gateway.listen(session, upstream={"api.test": f"http://127.0.0.1:{port}"})
        # The client may be too busy sending to read why it is hung up on.
        with connect("ws://api.test/", proxy=proxy) as connection, pytest.raises(ConnectionClosed):
            connection.send(endless())
        assert gateway.ended(session).one("websocket", kind="close")["code"] == 1009


def test_a_websocket_message_of_frames_without_an_end_is_refused(gateway: Gateway, session: str) -> None:
    with websocket_echo() as port:
        proxy = gateway.listen(session, upstream={"api.test": f"http://127.0.0.1:{port}"})
        with connect("ws://api.test/", proxy=proxy) as connection, pytest.raises(ConnectionClosed):
            connection.send(iter(["x"] * 200))
            assert connection.recv() == "x" * 200
            connection.send("" for _ in iter(int, 1))
        assert gateway.ended(session).one("websocket", kind="close")["code"] == 1009


def tunnel(proxy: str, target: str) -> socket.socket:
    parts = urlsplit(proxy)
    raw = socket.create_connection((str(parts.hostname), parts.port or 0), timeout=10)
    raw.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += raw.recv(4096)
    assert b" 200 " in answer.split(b"\r\n")[0]
    return raw


@pytest.mark.needs("root", "ip")
def test_a_tunnel_that_is_no_http_is_recorded_as_bytes(neighbour: str, session: str, neighbourly: Gateway) -> None:
    proxy = neighbourly.listen(session)
    with tunnel(proxy, f"{neighbour}:2222") as raw:
        raw.sendall(b"SSH-2.0-client\r\n")
        got = b""
        while len(got) < 30:
            got += raw.recv(4096)
    wait_for(lambda: neighbourly.recorded(session).of("tcp", end=True), "the tunnel's end")
    recorded = neighbourly.ended(session)
    sent = b"".join(body(f, "data") for f in recorded.of("tcp", **{"from": "client"}))
    back = b"".join(body(f, "data") for f in recorded.of("tcp", **{"from": "server"}))
    assert (sent, back) == (b"SSH-2.0-client\r\n", got)
    end = recorded.one("tcp", end=True)
    assert (end["host"], end["port"], end["client"]["bytes"]) == (neighbour, 2222, 16)


@pytest.mark.parametrize("port", [None, 53])
def test_a_tunnel_to_the_host_itself_is_refused(gateway: Gateway, session: str, port: int | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{port or listener.getsockname()[1]}"
        with tunnel(gateway.listen(session), target) as raw:
            raw.sendall(b"SSH-2.0-client\r\n")
            assert raw.recv(4096) == b""
        recorded = gateway.ended(session)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    end = recorded.one("tcp", end=True)
    assert "loopback" in end["message"]
    assert end["server"]["bytes"] == 0
