"""No credential is anywhere on disk: everything that was written is searched, the logs of the process included."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sandtrail.collector.secrets import make_secret
from tests.collector.gateway.harness import Gateway, header
from tests.collector.gateway.secrets_of_all_kinds import TOKENS, in_context
from tests.collector.gateway.test_tunnels import websocket_echo
from tests.collector.gateway.upstream import Handler, Server, Trust

Clients = Callable[..., httpx.Client]
# Not of any known form: only the place where they stand tells what they are.
PLACED = {
    "Authorization": "Bearer Wm9tYmllLTEyMzQ1Njc4",
    "Proxy-Authorization": "Basic dXNlcjpaMDEyMzQ1Njc4",
    "x-api-key": "abcdef-98765-fedcba",
    "api-key": "tuvwxy-13579-yxwvut",
    "x-goog-api-key": "qrstuv-24680-vutsrq",
    "x-amz-security-token": "SecTok0123456789abcdefg",
    "Cookie": "sid=c00kie-aaaa-1111; theme=c00kie-bbbb-2222",
}
QUERY = {"key": "q1-aaaa-bbbb", "api_key": "q2-cccc-dddd", "access_token": "q3-eeee-ffff", "X-Amz-Signature": "q4" * 20}


@pytest.fixture
def own(home: Path, trust: Trust) -> Iterator[Gateway]:
    """A gateway whose home only this test writes to."""
    running = Gateway(home, env={"SSL_CERT_FILE": str(trust.ca)})
    yield running
    running.close()


def secrets() -> list[bytes]:
    placed = [value.split(" ")[-1] for name, value in PLACED.items() if name != "Cookie"]
    cookies = [pair.split("=")[1] for pair in PLACED["Cookie"].split("; ")]
    return [*(secret.encode() for secret in (*placed, *cookies, *QUERY.values())), *TOKENS.values()]


def spellings(secret: bytes) -> list[bytes]:
    """The secret, and as it would look inside of our own base64, at any of its three alignments."""
    inside = [base64.b64encode(b"\0" * shift + secret)[4:-4] for shift in range(3)]
    return [secret, quote(secret, safe="").encode(), *inside]


def assert_none_written(gateway: Gateway, *more: bytes) -> None:
    written = gateway.written()
    # What stands in frames is searched as it would be read, too.
    for session in ("one", "two"):
        for frame in gateway.recorded(session).frames:
            written += json.dumps(frame).encode()
            for key in ("body", "data"):
                if frame.get(key):
                    raw = base64.b64decode(frame[key])
                    written += raw
                    if raw[:2] == b"\x1f\x8b":
                        written += gzip.decompress(raw)
    for secret in [*secrets(), *more]:
        for spelling in spellings(secret):
            assert spelling not in written, secret


def test_no_credential_is_written(own: Gateway, server: Server, secure_server: Server, trust: Trust) -> None:
    body = b"\n".join(map(in_context, TOKENS))

    def echo_everything(handler: Handler) -> None:
        # A server that repeats whatever it was told: in headers, whole, compressed, and in pieces of any size.
        said = json.dumps({"headers": dict(handler.headers.items()), "path": handler.path}).encode() + body
        handler.answer(said, set_cookie="sid=c00kie-aaaa-1111; Path=/", location=handler.path)

    def compressed(handler: Handler) -> None:
        handler.answer(gzip.compress(body + handler.headers.as_string().encode()), content_encoding="gzip")

    def in_pieces(handler: Handler) -> None:
        said = body + handler.headers.as_string().encode()
        handler.head(content_type="text/event-stream", transfer_encoding="chunked")
        for a, b in pairwise([*range(0, len(said), 7), len(said)]):
            handler.chunk(said[a:b])
        handler.chunk(b"")

    routes = {"/echo": echo_everything, "/compressed": compressed, "/pieces": in_pieces}
    context = ssl.create_default_context(cafile=str(own.home / "gateway" / "mitmproxy-ca-cert.pem"))
    packed = gzip.compress(body)
    pieces = [body[n : n + 11] for n in range(0, len(body), 11)]
    for session, running in (("one", server), ("two", secure_server)):
        running.routes |= routes
        proxy = own.listen(session, upstream={"api.test": running.url})
        scheme = "https" if running is secure_server else "http"
        with httpx.Client(proxy=httpx.Proxy(proxy, auth=("user", "Z012345678")), verify=context) as via:
            for path in routes:
                headers = {**PLACED, "x-note": TOKENS["openai-key"].decode()}
                sent = via.post(f"{scheme}://api.test{path}", params=QUERY, content=body, headers=headers)
                assert sent.status_code == 200
                via.post(f"{scheme}://api.test{path}", content=packed, headers={"content-encoding": "gzip"})
                via.post(f"{scheme}://api.test{path}", content=iter(pieces))
            via.get(f"{scheme}://nobody-has-this.invalid/", params=QUERY, headers=PLACED)
            via.get(f"{scheme}://127.0.0.1/", params=QUERY, headers=PLACED)
    assert_none_written(own)
    request = own.recorded("one").of("request")[0]
    assert "{{credential:x-api-key:" in str(header(request, "x-api-key"))
    assert str(header(request, "authorization")).startswith("Bearer {{credential:authorization:")
    assert request["url"].count("{{credential:query-key:") == len(QUERY)


def test_nor_in_what_is_no_whole_exchange(own: Gateway, server: Server) -> None:
    server.unread.add("/half")

    def half(handler: Handler) -> None:
        handler.rfile.read(20)
        handler.head(content_length="100000", **{"x-api-key": PLACED["x-api-key"]})
        handler.wfile.write(b"\n".join(map(in_context, TOKENS)))
        handler.close_connection = True

    server.routes["/half"] = half
    proxy = urlsplit(own.listen("one", upstream={"api.test": server.url}))
    head = "".join(f"{name}: {value}\r\n" for name, value in PLACED.items()) + "Host: api.test\r\n"
    target = "http://api.test/half?" + "&".join(f"{name}={value}" for name, value in QUERY.items())
    for text in (
        f"POST {target} HTTP/1.1\r\n{head}Content-Length: 5000\r\n\r\n" + "x" * 30,
        f"POST {target} HTTP/1.1\r\n{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        f"GET {target} HTTP/9\r\n{head}\r\n",
        f"GET {target} HTTP/1.1\r\nno colon here {head}\r\n",
        f"GET {target} HTTP/1.1\r\n{head}",
        f"{head}\r\n\r\n",
    ):
        with socket.create_connection((str(proxy.hostname), proxy.port or 0), timeout=10) as raw:
            raw.settimeout(1)
            raw.sendall(text.encode())
            raw.shutdown(socket.SHUT_WR)
            try:
                while raw.recv(65_536):
                    pass
            except (TimeoutError, ConnectionError):
                pass
    own.unlisten("one")
    assert len(own.recorded("one").of("close")) == 6
    assert_none_written(own)


def test_nor_in_websockets(own: Gateway) -> None:
    with websocket_echo() as port:
        proxy = own.listen("one", upstream={"api.test": f"http://127.0.0.1:{port}"})
        with connect("ws://api.test/?key=q1-aaaa-bbbb", proxy=proxy, additional_headers=PLACED) as connection:
            for text in [*map(in_context, TOKENS), *(value.encode() for value in PLACED.values())]:
                connection.send(text.decode())
                connection.recv()
        own.unlisten("one")
    assert_none_written(own)


def test_nor_is_a_secrets_value_or_placeholder(own: Gateway, server: Server) -> None:
    secret = make_secret("API_KEY", "sk-proj-a1B2+/=c3D4-e5F6", ["api.test"])
    held, value = secret.placeholder, secret.value

    def echo(handler: Handler) -> None:
        said = f"{handler.headers.as_string()} {handler.path} {handler.server.asked[-1].body!r}".encode()
        handler.answer(gzip.compress(said), content_encoding="gzip", location=handler.path, x_key=value)

    def pieces(handler: Handler) -> None:
        handler.head(content_type="text/event-stream", transfer_encoding="chunked")
        for a, b in pairwise([*range(0, len(value), 3), len(value)]):
            handler.chunk(value[a:b].encode())
        handler.chunk(b"")

    server.routes |= {"/echo": echo, "/pieces": pieces}
    with websocket_echo() as port:
        upstream = {"api.test": server.url, "other.test": server.url, "ws.test": f"http://127.0.0.1:{port}"}
        proxy = own.listen("one", secrets=[secret], upstream=upstream, limits={"request_body": 5000})
        headers = {"authorization": f"Bearer {held}", "x-note": held, "cookie": f"a={held}"}
        with httpx.Client(proxy=proxy) as via:
            for host in ("api.test", "other.test", f"{secret.core}.test"):
                for path in ("/echo", "/pieces", f"/{held}/{held.upper()}"):
                    url = f"http://{host}{path}?key={held}&q={held}"
                    via.post(url, json={"token": held, "note": held}, headers=headers)
                    via.get(url, auth=("me", held))
            for content in (f"{'x' * 9000}{held}", iter([held[:20].encode(), held[20:].encode()])):
                with contextlib.suppress(httpx.HTTPError):
                    via.post("http://other.test/echo", content=content)
        with connect("ws://ws.test/", proxy=proxy) as connection, contextlib.suppress(ConnectionClosed):
            connection.send(value)
            connection.recv()
            connection.send(held)
            connection.recv()
        own.unlisten("one")
    assert any(value in str(asked.headers) for asked in server.asked)
    assert_none_written(own, value.encode(), held.encode(), secret.core.encode(), secret.core.upper().encode())


def test_the_search_would_find_one(own: Gateway, server: Server) -> None:
    server.routes["/"] = lambda h: h.answer(b"harmless text that holds q1-aaaa-bbbb for once")
    with httpx.Client(proxy=own.listen("one", upstream={"api.test": server.url})) as via:
        via.get("http://api.test/")
    with pytest.raises(AssertionError):
        assert_none_written(own)
