"""Whole exchanges, as they pass through a real gateway process."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.collector.gateway.harness import Gateway, body, header
from tests.collector.gateway.upstream import Handler, Server, Trust, serving

Clients = Callable[..., httpx.Client]


def test_an_exchange_is_recorded_whole_on_both_sides(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    server.routes["/echo"] = lambda h: h.answer(b"pong", 201, x_answer="yes")
    proxy = gateway.listen(session, upstream={"api.test": server.url})
    before = time.time_ns()
    response = client(proxy).post("http://api.test/echo?a=1", content=b"ping", headers={"x-asked": "so"})
    assert (response.status_code, response.content) == (201, b"pong")

    recorded = gateway.ended(session)
    request, answer = recorded.one("request"), recorded.one("response")
    assert (request["method"], request["url"]) == ("POST", "http://api.test/echo?a=1")
    assert request["upstream"] == server.url
    assert body(request) == b"ping"
    assert request["body_bytes"] == 4
    assert request["body_sha256"] == hashlib.sha256(b"ping").hexdigest()
    assert not request["cut"]
    assert header(request, "x-asked") == "so"
    assert (answer["status"], body(answer), answer["cut"], answer["stream"]) == (201, b"pong", False, False)
    assert header(answer, "x-answer") == "yes"
    assert (answer["flow"], answer["id"]) == (request["flow"], request["id"])
    moments = [before, request["start_ns"], request["end_ns"], answer["start_ns"], answer["end_ns"], time.time_ns()]
    # mitmproxy's own stamps are floats: good to a microsecond.
    assert all(a <= b + 1000 for a, b in zip(moments, moments[1:], strict=False))


def test_the_request_is_in_the_spool_before_the_server_gets_it(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    seen: list[int] = []

    def look(handler: Handler) -> None:
        seen.append(len(gateway.recorded(session).of("request", url="http://api.test/look")))
        handler.answer(b"ok")

    server.routes["/look"] = look
    client(gateway.listen(session, upstream={"api.test": server.url})).post("http://api.test/look", content=b"x" * 9999)
    assert seen == [1]


def test_the_response_is_in_the_spool_before_the_client_has_it_whole(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    server.routes["/"] = lambda h: h.answer(b"y" * 100_000)
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    for _ in range(20):
        before = len(gateway.recorded(session).of("response"))
        assert len(via.get("http://api.test/").content) == 100_000
        assert len(gateway.recorded(session).of("response")) == before + 1


def test_what_is_said_to_the_proxy_is_not_told_to_the_server(gateway: Gateway, session: str, server: Server) -> None:
    server.routes["/"] = lambda h: h.answer(b"ok")
    proxy = httpx.Proxy(gateway.listen(session, upstream={"api.test": server.url}), auth=("me", "for-the-proxy"))
    with httpx.Client(proxy=proxy) as via:
        via.get("http://api.test/")
        via.post("http://api.test/", content=iter([b"in chunks"]))
    assert [name for asked in server.asked for name in asked.headers if name.lower().startswith("proxy-")] == []
    recorded = gateway.ended(session)
    assert "{{credential:proxy-authorization:" in str(header(recorded.of("request")[0], "proxy-authorization"))


def test_https_is_read_and_the_upstream_is_verified(
    gateway: Gateway, session: str, secure_server: Server, client: Clients
) -> None:
    secure_server.routes["/secret"] = lambda h: h.answer(b"inside")
    proxy = gateway.listen(session, upstream={"api.test": secure_server.secure_url})
    assert client(proxy).get("https://api.test/secret").text == "inside"

    recorded = gateway.ended(session)
    connect = recorded.one("connect")
    assert (connect["method"], connect["host"], connect["port"]) == ("CONNECT", "api.test", 443)
    assert recorded.one("tls")["sni"] == "api.test"
    assert recorded.one("tls")["established"]
    assert recorded.one("request")["url"] == "https://api.test/secret"
    assert body(recorded.one("response")) == b"inside"
    assert recorded.one("close")["up_bytes"] > 500


def test_an_upstream_that_nobody_vouches_for_is_an_error(
    gateway: Gateway, session: str, client: Clients, tmp_path: Path
) -> None:
    with serving(Server(Trust(tmp_path).context)) as impostor:
        proxy = gateway.listen(session, upstream={"api.test": impostor.secure_url})
        assert client(proxy).get("https://api.test/").status_code == 502
    error = gateway.ended(session).one("error")
    assert "certificate" in error["message"].lower()
    assert impostor.asked == []


def test_a_client_that_does_not_trust_the_gateway_is_recorded_by_name(
    gateway: Gateway, session: str, secure_server: Server
) -> None:
    proxy = gateway.listen(session, upstream={"api.test": secure_server.secure_url})
    with httpx.Client(proxy=proxy) as pinned, pytest.raises(httpx.ConnectError):
        pinned.get("https://api.test/")
    tls = gateway.ended(session).one("tls")
    assert (tls["sni"], tls["established"]) == ("api.test", False)
    assert tls["message"]


def _curl(gateway: Gateway, proxy: str, *arguments: str) -> bytes:
    trusted = str(gateway.home / "gateway" / "mitmproxy-ca-cert.pem")
    command = ["curl", "--silent", "--max-time", "15", "--proxy", proxy, "--cacert", trusted, *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_speaks_either_version(gateway: Gateway, session: str, secure_server: Server, version: str) -> None:
    secure_server.routes["/v"] = lambda h: h.answer(h.headers["user-agent"].encode())
    proxy = gateway.listen(session, upstream={"api.test": secure_server.secure_url})
    assert _curl(gateway, proxy, version, "-A", "me", "https://api.test/v") == b"me"
    request = gateway.ended(session).one("request")
    assert request["http_version"] == {"--http1.1": "HTTP/1.1", "--http2": "HTTP/2.0"}[version]


def test_many_http2_streams_at_once_on_one_connection(gateway: Gateway, session: str, secure_server: Server) -> None:
    secure_server.routes["/n"] = lambda h: h.answer(h.path.encode() + b"\n")
    proxy = gateway.listen(session, upstream={"api.test": secure_server.secure_url})
    got = _curl(gateway, proxy, "--http2", "--parallel", "--data", "x", "https://api.test/n?[1-48]")
    assert sorted(got.split()) == sorted(f"/n?{n}".encode() for n in range(1, 49))
    recorded = gateway.ended(session)
    assert len(recorded.of("connect")) < 48
    urls = {frame["id"]: frame["url"] for frame in recorded.of("request", http_version="HTTP/2.0")}
    assert len(urls) == len(recorded.of("response")) == 48
    for answer in recorded.of("response"):
        assert body(answer).decode().strip() == urls[answer["id"]].removeprefix("https://api.test")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_responses_without_a_body(
    gateway: Gateway, session: str, server: Server, client: Clients, method: str, status: int
) -> None:
    def bare(handler: Handler) -> None:
        handler.head(status, **({"content-length": "12345"} if method == "HEAD" else {}))

    server.routes["/"] = bare
    proxy = gateway.listen(session, upstream={"api.test": server.url})
    assert client(proxy).request(method, "http://api.test/").status_code == status
    answer = gateway.ended(session).one("response")
    assert (answer["status"], body(answer), answer["body_bytes"], answer["cut"]) == (status, b"", 0, False)


def test_two_sandboxes_are_told_apart_by_their_links(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    server.routes["/who"] = lambda h: h.answer(b"")
    other = f"{session}-other"
    one, two = (gateway.listen(name, upstream={"api.test": server.url}, sandbox=name) for name in (session, other))
    # Nothing that a client says about itself counts.
    claim = {"x-forwarded-for": "10.9.9.9", "via": other, "x-session": other}
    for n in range(5):
        client(one).get(f"http://api.test/who?one={n}", headers=claim)
        client(two).get(f"http://api.test/who?two={n}", headers=claim)
    mine, theirs = gateway.ended(session), gateway.ended(other)
    assert [frame["url"] for frame in mine.of("request")] == [f"http://api.test/who?one={n}" for n in range(5)]
    assert [frame["url"] for frame in theirs.of("request")] == [f"http://api.test/who?two={n}" for n in range(5)]
    assert (mine.opened["sandbox"], theirs.opened["sandbox"]) == (session, other)
    assert mine.closed["exchanges"] == theirs.closed["exchanges"] == 5
