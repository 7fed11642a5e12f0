"""What the gateway does not let pass, what it answers, and that it says so in the record."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
import pytest

from sandtrail.collector.gateway.rules import Rules
from tests.collector.gateway.harness import Gateway, body, wait_for
from tests.collector.gateway.upstream import Server

Clients = Callable[..., httpx.Client]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "169.254.169.254",
    ],
)
def test_the_host_itself_is_out_of_reach(
    gateway: Gateway, session: str, server: Server, client: Clients, host: str, scheme: str
) -> None:
    # The same server is an upstream of the policy: only by its mapped name can it be reached.
    proxy = gateway.listen(session, upstream={"api.test": server.url})
    response = client(proxy).get(f"{scheme}://{host}:{server.server_address[1]}/latest/meta-data")
    assert response.status_code == 403
    assert "is refused" in response.text
    assert server.asked == []
    recorded = gateway.ended(session)
    error = recorded.one("error")
    assert (error["reason"], error["status"], error["by"]) == ("refused", 403, "gateway")
    assert error["id"] == recorded.one("request")["id"]
    assert recorded.of("response") == []


@pytest.mark.parametrize("url", ["http://[::1]/", "https://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::]/"])
def test_nor_is_it_by_ipv6(gateway: Gateway, session: str, url: str) -> None:
    command = ["curl", "-sgk", "--max-time", "15", "--proxy", gateway.listen(session), url]
    assert b"is refused" in subprocess.run(command, capture_output=True, check=True).stdout
    assert gateway.ended(session).one("error")["reason"] == "refused"


def test_so_is_every_other_address_of_the_host(gateway: Gateway, session: str, client: Clients) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.77", 9))  # sends nothing; says which address would be ours
        except OSError:
            pytest.skip("this machine has no other address than loopback")
        ours = probe.getsockname()[0]
    assert client(gateway.listen(session)).get(f"http://{ours}/").status_code == 403
    assert ours in gateway.ended(session).one("error")["message"]


@pytest.mark.needs("root", "ip")
def test_neighbours_can_be_reached(neighbourly: Gateway, neighbour: str, session: str) -> None:
    with httpx.Client(proxy=neighbourly.listen(session)) as via:
        assert via.get(f"http://{neighbour}:8080/").text == "neighbour"
        assert via.get("http://198.51.100.1:8080/").status_code == 403, "that is the gateway's own address"
        assert via.get("http://198.51.100.77:8080/").status_code == 502
    recorded = neighbourly.ended(session)
    assert recorded.one("response")["server"] == [neighbour, 8080]
    assert [error.get("reason") for error in recorded.of("error")] == ["refused", None]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_that_nobody_knows(gateway: Gateway, session: str, client: Clients, scheme: str) -> None:
    response = client(gateway.listen(session)).get(f"{scheme}://nobody-has-this.invalid/x")
    assert response.status_code == 502
    assert "cannot resolve nobody-has-this.invalid" in response.text
    error = gateway.ended(session).one("error")
    assert (error["reason"], error["status"]) == ("unresolved", 502)
    assert "nobody-has-this.invalid" in error["message"]


def test_a_server_that_is_not_there(gateway: Gateway, session: str, client: Clients) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert client(gateway.listen(session, upstream={"api.test": base})).get("http://api.test/").status_code == 502
    assert "Connect call failed" in gateway.ended(session).one("error")["message"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_denied_name_is_answered_with_403_and_the_rules_digest(
    gateway: Gateway, session: str, server: Server, client: Clients, scheme: str
) -> None:
    rules = {"allow": ["*.test"], "deny": ["bad.*"]}
    proxy = gateway.listen(session, upstream={"bad.test": server.url, "api.test": server.url}, rules=rules)
    via = client(proxy)
    for host in ("bad.test", "elsewhere.example"):
        response = via.post(f"{scheme}://{host}/exfil", content=b"the plans")
        assert (response.status_code, response.headers["content-type"]) == (403, "text/plain; charset=utf-8")
        assert host in response.text
    assert via.get(f"{scheme}://api.test/").status_code == 404
    recorded = gateway.ended(session)
    assert [body(request) for request in recorded.of("request")] == [b"the plans", b"the plans", b""]
    assert len(server.asked) == 1
    for error in recorded.of("error"):
        assert (error["reason"], error["status"], error["rules"]) == ("denied", 403, Rules.parse(rules).digest)
    assert recorded.opened["rules"]["sha256"] == Rules.parse(rules).digest


def test_a_host_header_does_not_smuggle_a_denied_name_past_the_rules(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    proxy = gateway.listen(session, upstream={"api.test": server.url}, rules={"deny": ["bad.test"]})
    assert client(proxy).get("http://api.test/", headers={"host": "bad.test"}).status_code == 403
    assert server.asked == []


def test_a_denied_upload_without_an_end_is_cut_off(gateway: Gateway, session: str) -> None:
    proxy = urlsplit(gateway.listen(session, rules={"allow": []}, limits={"request_body": 100_000}))
    with socket.create_connection((str(proxy.hostname), proxy.port or 0), timeout=10) as raw:
        raw.sendall(b"POST http://api.test/up HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                raw.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
    wait_for(lambda: gateway.recorded(session).of("close"), "the end")
    recorded = gateway.ended(session)
    assert any("on and on" in error["message"] for error in recorded.of("error"))
    assert recorded.of("close")[0]["up_bytes"] < 1_000_000


def test_a_small_denied_upload_of_unknown_length_is_answered(gateway: Gateway, session: str, client: Clients) -> None:
    proxy = gateway.listen(session, rules={"allow": []})
    assert client(proxy).post("http://api.test/", content=iter([b"the ", b"plans"])).status_code == 403
    assert body(gateway.ended(session).one("request")) == b"the plans"


def test_a_denied_tunnel_is_not_made(gateway: Gateway, session: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        rules = {"deny": ["bad.test"]}
        proxy = gateway.listen(session, upstream={"bad.test": f"http://127.0.0.1:{port}"}, rules=rules)
        parts = urlsplit(proxy)
        with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=10) as raw:
            raw.sendall(b"CONNECT bad.test:22 HTTP/1.1\r\n\r\n")
            assert b" 200 " in raw.recv(4096)
            raw.sendall(b"\x00\x01 no HTTP")
            assert raw.recv(4096) == b""
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert "bad.test is denied" in gateway.ended(session).one("tcp", end=True)["message"]


def test_connections_over_the_limit_are_refused_and_counted(gateway: Gateway, session: str, server: Server) -> None:
    proxy = urlsplit(gateway.listen(session, limits={"connections": 5}))
    open_ones = [socket.create_connection((str(proxy.hostname), proxy.port or 0), timeout=10) for _ in range(5)]
    for one in open_ones:
        one.sendall(b"GET")
    with socket.create_connection((str(proxy.hostname), proxy.port or 0), timeout=10) as sixth:
        assert sixth.recv(100) == b""
    for one in open_ones:
        one.close()
    recorded = gateway.ended(session)
    recorded.one("error", reason="refused")
    assert (recorded.closed["connections"], recorded.closed["refused"]) == (6, 1)


def test_an_upstream_with_a_path_and_a_name(
    gateway: Gateway, session: str, secure_server: Server, client: Clients
) -> None:
    secure_server.routes["/tenant/v1/models"] = lambda h: h.answer(h.headers["host"].encode())
    via = client(gateway.listen(session, upstream={"api.test": f"{secure_server.secure_url}/tenant"}))
    assert via.get("https://api.test/v1/models?x=1").text == "api.test"
    request = gateway.ended(session).one("request")
    assert request["url"] == "https://api.test/v1/models?x=1"
    assert request["upstream"] == f"{secure_server.secure_url}/tenant"


def test_the_mapped_name_reaches_its_upstream_with_its_own_host_header(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    via = client(gateway.listen(session, upstream={"api.test": server.url}))
    via.get("http://api.test/a")
    via.get("http://api.test.:8443/b")
    assert [asked.headers["Host"] for asked in server.asked] == ["api.test", "api.test.:8443"]


@pytest.mark.parametrize("extra", [{"rules": {"alow": []}}, {"upstream": {"a": "nonsense"}}, {"redact": {"x": 1}}])
def test_a_descriptor_that_makes_no_sense_is_refused(gateway: Gateway, session: str, extra: dict[str, object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        message = {"op": "listen", "session": session, "descriptor": extra}
        answer = gateway.ask(message, (listener.fileno(),))
    assert answer["ok"] is False
    assert json.dumps(answer)
    assert gateway.unlisten(session)["ok"] is False


def test_many_slow_names_of_one_sandbox_do_not_hold_up_another(
    gateway: Gateway, session: str, server: Server, client: Clients
) -> None:
    flooding = gateway.listen(f"{session}-flood")
    calm = client(gateway.listen(session, upstream={"api.test": server.url}))
    stop = threading.Event()

    def flood(n: int) -> None:
        with httpx.Client(proxy=flooding, timeout=30) as via:
            for m in range(50):
                if not stop.is_set():
                    via.get(f"http://n{n}-{m}.invalid/")

    threads = [threading.Thread(target=flood, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert calm.get("http://api.test/").status_code == 404
    stop.set()
    for thread in threads:
        thread.join(30)
    assert len(gateway.ended(session).of("response")) == 20
    assert gateway.ended(f"{session}-flood").closed["exchanges"] > 8
