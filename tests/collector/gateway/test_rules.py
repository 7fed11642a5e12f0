"""Which requests may leave, and that no spelling of a path gets around a rule."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from sandtrail.collector.gateway.route import names_of
from sandtrail.collector.gateway.rules import Decision, Rules, readings
from tests.collector.gateway.harness import Gateway
from tests.collector.gateway.upstream import Handler, Server

Clients = Callable[..., httpx.Client]


def allowed(rules: dict[str, Any], *names: str, method: str = "GET", path: str = "/") -> bool:
    return not Rules.parse(rules).judge(names, [method], path).denial


@pytest.mark.parametrize(
    ("rules", "name", "expected"),
    [
        ({"deny": ["*.bad.test"]}, "x.bad.test", False),
        ({"deny": ["*.bad.test"]}, "bad.test", True),
        ({"allow": ["*.good.test"]}, "a.good.test", True),
        ({"allow": ["*.good.test"]}, "a.good.test.evil.test", False),
        ({"allow": ["*"], "deny": ["bad.test"]}, "bad.test", False),
        ({"allow": []}, "any.test", False),
    ],
)
def test_deny_wins_and_an_allow_list_is_all_there_is(rules: dict[str, Any], name: str, expected: bool) -> None:
    assert allowed(rules, name) == expected


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("a.test", "a.test"), ("a.test:80", "a.test"), ("a.test:", "a.test"), ("[::1]:80", "::1"), ("[::1]", "::1"),
        ("::1", "::1"), ("a.test:80@b.test", "a.test:80@b.test"), ("[a.test].b.test", "[a.test].b.test"),
        ("a.test:b", "a.test:b"),
    ],
)  # fmt: skip
def test_a_host_header_is_read_as_name_and_port_or_not_at_all(header: str, name: str) -> None:
    request = http.Request.make("GET", "http://else.test/")
    request.headers["host"] = header
    flow = SimpleNamespace(request=request, client_conn=SimpleNamespace(sni=None))
    assert names_of(cast(Any, SimpleNamespace(turned=None)), cast(Any, flow)) == ["else.test", name]


@pytest.mark.parametrize(
    ("denied", "name"),
    [
        ("192.0.2.1", "3221225985"), ("192.0.2.1", "192.0.513"), ("192.0.2.1", "0xC0.0.2.1"),
        ("192.0.2.1", "0300.0.2.1"), ("192.0.2.1", "192.0.2.1."), ("192.0.2.1", "::ffff:192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"), ("2001:db8::1", "2001:DB8:0:0::0001"), ("192.0.2.*", "0xc0000201"),
        ("2001:db8::1", "2001:db8::1%1"), ("192.0.2.1", "::ffff:192.0.2.1%lo"),
    ],
)  # fmt: skip
def test_no_spelling_of_an_address_gets_around_a_deny_rule(denied: str, name: str) -> None:
    assert not allowed({"deny": [denied]}, name)
    assert allowed({"deny": [denied]}, "192.0.3.1")


def test_only_the_star_and_the_question_mark_stand_for_others() -> None:
    assert not allowed({"deny": ["a.test/x[12]/*"]}, "a.test", path="/x[12]/y")
    assert allowed({"deny": ["a.test/x[12]/*"]}, "a.test", path="/x1/y")


def test_each_of_a_requests_names_has_to_be_allowed() -> None:
    rules = {"allow": ["good.test"]}
    assert allowed(rules, "good.test", "", "GOOD.test.")
    assert not allowed(rules, "good.test", "front.test")
    denial = Rules.parse(rules).judge(["good.test", "front.test"], ["GET"], "/").denial
    assert denial == "front.test is not among the names that the rules allow"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/docs/a", True),
        ("HEAD", "/docs/a/b", True),
        ("get", "/docs/", True),
        ("POST", "/docs/a", False),
        ("GET", "/docs", False),
        ("GET", "/other", False),
        ("POST", "/upload", True),
        ("POST", "/upload/more", False),
        ("POST", "/upload?to=elsewhere", True),
        ("DELETE", "/docs/internal/a", False),
        ("GET", "/docs/internal/a", False),
    ],
)
def test_a_rule_names_methods_and_a_path(method: str, path: str, expected: bool) -> None:
    rules = {"allow": ["GET,HEAD a.test/docs/*", "post a.test/upload"], "deny": ["a.test/docs/internal/*"]}
    assert allowed(rules, "a.test", method=method, path=path) == expected


def test_the_first_rule_that_matches_is_the_one_that_is_named() -> None:
    rules = Rules.parse({"allow": ["get *.test/a/*", "a.test"], "deny": ["POST a.test", "a.test/x"]})
    assert rules.judge(["a.test"], ["GET"], "/a/b") == Decision("GET *.test/a/*")
    assert rules.judge(["a.test"], ["GET"], "/b") == Decision("a.test")
    assert rules.judge(["a.test"], ["POST"], "/x").rule == "POST a.test"
    assert rules.judge(["a.test"], ["GET"], "/x").rule == "a.test/x"
    assert rules.judge(["b.test"], ["GET"], "/x").rule is None


def test_every_method_that_a_request_may_be_taken_for_has_to_be_allowed() -> None:
    rules = Rules.parse({"allow": ["POST a.test"]})
    assert rules.judge(["a.test"], ["POST"], "/") == Decision("POST a.test")
    assert rules.judge(["a.test"], ["POST", "DELETE"], "/").denial
    assert Rules.parse({"deny": ["DELETE a.test"]}).judge(["a.test"], ["POST", "delete"], "/").denial


SPELLINGS = [
    "/admin/x", "//admin//x", "/./admin/x", "/a/../admin/x", "/%61dmin/x", "/%2561dmin/x", "/%252561dmin/x",
    "/admin%2fx", "/admin%2Fx", "/%2e/admin/x", "/a/%2e%2e/admin/x", "/a/%2E%2E/admin/x", "/a%2f..%2fadmin/x",
    "/a/..;/admin/x", "/admin;v=1/x", "\\admin\\x", "/a/..%5cadmin/x", "/../../admin/x",
    "/admin/x?b", "/admin/./x", "/x/..//admin/x", "/x#/../../admin/x", "/admin/x#/../../x", "/x%23/../../admin/x",
]  # fmt: skip


@pytest.mark.parametrize("path", SPELLINGS)
def test_no_spelling_of_a_path_gets_around_a_deny_rule(path: str) -> None:
    assert not allowed({"deny": ["a.test/admin/*"]}, "a.test", path=path)


@pytest.mark.parametrize(
    "path",
    ["/public/../admin", "/public/%2e%2e/admin", "/public%2f..%2fadmin", "/public/..;/admin", "/public/..%5cadmin",
     "/public%2fx", "/public/%252e%252e/admin", "/publicity", "/PUBLIC/x", "/public\\..\\admin",
     "/public/#/../../admin"],
)  # fmt: skip
def test_nor_does_one_get_into_an_allow_rule(path: str) -> None:
    assert not allowed({"allow": ["a.test/public/*"]}, "a.test", path=path)


@pytest.mark.parametrize(
    "path", ["/public/a", "/public/a%20b", "/public/%C3%A9?q=%2e%2e", "/public/a/../b", "/public//a"]
)
def test_ordinary_spellings_are_allowed(path: str) -> None:
    assert allowed({"allow": ["a.test/public/*"]}, "a.test", path=path)


@pytest.mark.parametrize(
    "name", ["good.test/x.bad.test", "good.test:80:80", "good.test\r\n x.bad.test", "a b", "a@bad.test"]
)
def test_where_there_are_rules_a_name_has_to_be_one_of_a_host(name: str) -> None:
    for rules in ({"allow": ["*bad.test", "*80", "*b"]}, {"deny": ["evil.test"]}):
        assert not allowed(rules, name)
    assert allowed({}, name)


def test_every_path_that_a_request_may_be_taken_for_has_to_be_allowed() -> None:
    rules = Rules.parse({"allow": ["a.test/x/*"], "deny": ["a.test/x/y"]})
    assert not rules.judge(["a.test"], ["GET"], "/x/1", "/x/2").denial
    assert rules.judge(["a.test"], ["GET"], "/x/1", "/y").denial
    assert rules.judge(["a.test"], ["GET"], "/x/1", "/x/y").rule == "a.test/x/y"


def test_what_is_no_request_is_judged_by_the_host_alone() -> None:
    rules = Rules.parse({"allow": ["a.test", "GET b.test/x"], "deny": ["POST a.test/y", "c.test"]})
    assert not rules.judge_host("a.test").denial, "some requests to it may be made"
    assert not rules.judge_host("b.test").denial
    assert rules.judge_host("c.test").rule == "c.test"
    assert rules.judge_host("d.test").denial
    assert rules.judge_tunnel("a.test").rule == "POST a.test/y", "it could be what this rule denies"
    assert rules.judge_tunnel("b.test").denial
    assert not Rules.parse({"allow": ["b.test"]}).judge_tunnel("b.test").denial


def test_the_digest_is_that_of_the_rules() -> None:
    assert Rules.parse({"deny": ["a.test"]}).digest == Rules.parse({"deny": ["A.TEST."]}).digest
    assert Rules.parse({"deny": ["get,head A.test/x"]}).digest == Rules.parse({"deny": ["HEAD,GET a.test/x"]}).digest
    assert Rules.parse({"deny": ["a.test"]}).digest != Rules.parse({"deny": ["a.test/"]}).digest


@given(st.text(max_size=60), st.integers(0, 2))
def test_a_path_that_is_escaped_is_read_as_it_was(path: str, times: int) -> None:
    escaped = "/" + path.replace("%", "").replace("?", "").replace("#", "").replace(";", "")
    plain = readings(escaped)
    for _ in range(times):
        escaped = quote(escaped, safe="/")
    assert plain & readings(escaped)


@given(st.text(max_size=80))
def test_any_path_has_readings_without_dot_segments_or_double_slashes(path: str) -> None:
    for reading in readings(path):
        assert reading.startswith("/")
        assert "//" not in reading
        assert not {".", ".."} & set(reading.split("/"))


def test_requests_are_let_through_and_denied_by_path_on_the_wire(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    server.routes["/public/a"] = lambda h: h.answer(b"open")
    rules = {"allow": ["GET api.test/public/*"], "deny": ["api.test/public/admin*"]}
    via = client(gateway.listen(session, upstream={"api.test": server.url}, rules=rules))
    assert via.get("https://api.test/public/a").text == "open"
    assert via.post("https://api.test/public/a").status_code == 403
    assert via.get("https://api.test/public/%61dmin").status_code == 403
    assert via.get("https://api.test/private").status_code == 403
    for other in (
        {"x-http-method-override": "DELETE"},
        {"x-original-url": "/private"},
        {"x-rewrite-url": "http://a/b"},
    ):
        assert via.get("https://api.test/public/a", headers=other).status_code == 403
    assert [asked.path for asked in server.asked] == ["/public/a"]
    recorded = gateway.ended(session)
    digest = Rules.parse(rules).digest
    first, *others = recorded.of("request")
    assert (first["rules"], first["rule"]) == (digest, "GET api.test/public/*")
    assert not any("rule" in request for request in others)
    errors = recorded.of("error")
    assert {error["rules"] for error in errors} == {digest}
    assert [error["rule"] for error in errors] == [None, "api.test/public/admin*", None, None, None, None]


def test_the_target_of_a_request_counts_by_every_name_that_it_has(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    """An absolute target inside of a tunnel names a host of its own, and the server may believe it."""
    proxy = urlsplit(gateway.listen(session, upstream={"api.test": server.url}, rules={"deny": ["bad.test"]}))
    context = ssl.create_default_context(cafile=str(gateway.home / "gateway" / "mitmproxy-ca-cert.pem"))
    with socket.create_connection((str(proxy.hostname), proxy.port or 0), timeout=10) as raw:
        raw.sendall(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert b" 200 " in raw.recv(4096)
        with context.wrap_socket(raw, server_hostname="api.test") as tls:
            tls.sendall(b"GET http://bad.test/x HTTP/1.1\r\nHost: api.test\r\n\r\n")
            assert b" 403 " in tls.recv(4096)
    assert server.asked == []
    assert gateway.ended(session).one("error")["rule"] == "bad.test"


@pytest.mark.parametrize(("whole", "protocol"), [(True, "raw"), (False, "raw"), (False, "websocket")])
def test_a_request_that_turns_into_something_else_needs_a_rule_about_the_whole_host(
    gateway: Gateway, session: str, server: Server, whole: bool, protocol: str
) -> None:
    """Also where the server calls it a WebSocket, and the request had not asked for one."""

    def upgrade(handler: Handler) -> None:
        handler.head(101, upgrade=protocol, connection="upgrade")
        handler.wfile.write(b"hello, " + handler.rfile.readline())
        handler.close_connection = True

    server.routes["/up"] = upgrade
    rules = {"allow": ["api.test" if whole else "GET api.test/up"]}
    proxy = urlsplit(gateway.listen(session, upstream={"api.test": server.url}, rules=rules))
    with socket.create_connection((str(proxy.hostname), proxy.port or 0), timeout=10) as raw:
        raw.sendall(b"GET http://api.test/up HTTP/1.1\r\nHost: api.test\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        got = b""
        with contextlib.suppress(ConnectionError):
            while data := raw.recv(4096):
                got += data
                if b"\r\n\r\n" in got and b"hello" not in got:
                    raw.sendall(b"GET /denied\n")
    assert (b"hello, GET /denied" in got) == whole
    assert [error["reason"] for error in gateway.ended(session).of("error", by="gateway")] == (
        [] if whole else ["denied"]
    )


def test_every_name_of_a_request_that_has_several_is_recorded(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    via = client(gateway.listen(session, upstream={"api.test": server.url}), http2=True)
    for scheme in ("http", "https"):
        via.get(f"{scheme}://api.test/", headers={"host": "Front.test"})
        via.get(f"{scheme}://api.test/")
    fronted = ["api.test", "front.test"]
    assert [asked.get("names") for asked in gateway.ended(session).of("request")] == [fronted, None] * 2


@pytest.mark.parametrize("rules", [{}, {"allow": ["api.test"]}])
def test_a_second_host_header_is_one_too_many(
    gateway: Gateway, session: str, server: Server, rules: dict[str, list[str]]
) -> None:
    proxy = urlsplit(gateway.listen(session, upstream={"api.test": server.url}, rules=rules))
    with socket.create_connection((str(proxy.hostname), proxy.port or 0), timeout=10) as raw:
        raw.sendall(b"GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nHost: bad.test\r\n\r\n")
        assert raw.recv(4096).split()[1] == b"400"
    assert server.asked == []
