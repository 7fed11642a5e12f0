"""What HTTP/1 has beside heads and bodies: interim responses and trailers keep nobody from the answer."""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest

from sandtrail.collector.secrets import make_secret
from tests.collector.gateway.harness import Gateway
from tests.collector.gateway.upstream import Handler, Server

Clients = Callable[..., httpx.Client]
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    "interim", [[HINT], [CONTINUE], [b"HTTP/1.1 102 P\r\n\r\n", HINT, HINT], [HINT[:30], HINT[30:]]]
)
def test_the_answer_after_interim_responses_is_the_answer(
    gateway: Gateway, session: str, server: Server, client: Clients, interim: list[bytes]
) -> None:
    def hinting(handler: Handler) -> None:
        for piece in interim:
            handler.wfile.write(piece)
            handler.wfile.flush()
        handler.head(200, **{"content-length": "2"})
        handler.wfile.write(b"ok")

    server.routes["/hinting"] = hinting
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    for _ in range(2):
        answer = via.get("http://api.test/hinting")
        assert (answer.status_code, answer.content) == (200, b"ok")
    recorded = gateway.ended(session)
    assert [frame["status"] for frame in recorded.of("response")] == [200, 200]
    assert recorded.closed["interim"] == 2 * b"".join(interim).count(b"HTTP/1.1"), "what was passed over is counted"


def test_an_interim_response_that_does_not_end_is_an_error(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    def endless(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n" + b"Link: </style.css>\r\n" * 30_000)

    server.routes["/endless"] = endless
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    assert via.get("http://api.test/endless").status_code == 502
    assert "Bad HTTP response line" in gateway.ended(session).one("error")["message"]


def test_trailers_of_an_answer_are_recorded_and_its_end_passed_on(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    def trailing(handler: Handler) -> None:
        handler.head(200, **{"transfer-encoding": "chunked"})
        handler.wfile.write(b"2\r\nok\r\n0\r\nServer-Timing: db;dur=5\r\n\r\n")

    server.routes["/trailing"] = trailing
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    for _ in range(2):  # the second goes over the same connection
        assert via.get("http://api.test/trailing").content == b"ok"
    recorded = gateway.ended(session)
    ends = [frame for frame in recorded.of("response") if "end_ns" in frame]
    assert [frame["trailers"] for frame in ends] == [[["Server-Timing", "db;dur=5"]]] * 2
    assert not recorded.of("error")


def ask(proxy: str, *pieces: bytes) -> bytes:
    at, got = urlsplit(proxy), b""
    with socket.create_connection((str(at.hostname), at.port or 0), timeout=10) as raw:
        for piece in pieces:
            raw.sendall(piece)
        while data := raw.recv(4096):
            got += data
    return got


POST = b"POST http://api.test/ HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_trailers_of_a_request_are_recorded_and_stay_here(gateway: Gateway, session: str, server: Server) -> None:
    answer = ask(gateway.listen(session, upstream={"api.test": server.url}), POST + b"2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404")
    assert [asked.body for asked in server.asked] == [b"ok"]
    ends = [frame for frame in gateway.ended(session).of("request") if "end_ns" in frame]
    assert [frame["trailers"] for frame in ends] == [[["X-Sum", "7"]]]


def test_a_placeholder_in_a_trailer_is_told_of(gateway: Gateway, session: str, server: Server) -> None:
    secret = make_secret("API_KEY", "value-of-the-secret-7d21", ["elsewhere.test"])
    proxy = gateway.listen(session, secrets=[secret], upstream={"api.test": server.url})
    ask(proxy, POST + b"2\r\nok\r\n0\r\nX-Sum: " + secret.placeholder.encode() + b"\r\n\r\n")
    assert gateway.ended(session).one("error", reason="exfiltration")["in"] == "trailer"
