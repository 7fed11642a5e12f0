"""The process: what it owns, how it ends, what it does when it can't record, and that a successor takes over."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cbor2
import httpx
import pytest
from cryptography import x509

from sandtrail.collector.control import receive, send
from sandtrail.collector.gateway.ca import ensure_ca
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.secrets import make_secret, write_handed
from sandtrail.errors import StoreError
from sandtrail.store.frames import Kind
from sandtrail.store.spool import parse_records
from tests.collector.gateway.harness import PATIENCE_S, Gateway, body, wait_for
from tests.collector.gateway.upstream import Handler, Server


@pytest.fixture
def start(home: Path) -> Iterator[Callable[[], Gateway]]:
    """Starts gateways on this test's home; all of them are gone when it ends."""
    started: list[Gateway] = []

    def one() -> Gateway:
        started.append(Gateway(home))
        return started[-1]

    yield one
    for running in started:
        running.control.close()
        running.process.kill()
        running.process.wait()


def limit_files(gateway: Gateway, size: int) -> None:
    """Let the process write no file beyond this size, as a full disk would."""
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def spool_size(gateway: Gateway) -> int:
    return sum(path.stat().st_size for path in (gateway.home / "spool").glob("gateway.*"))


def test_stop_ends_every_stream_and_the_process(start: Callable[[], Gateway], server: Server) -> None:
    gateway = start()
    proxies = [gateway.listen(f"s{n}", upstream={"api.test": server.url}) for n in range(3)]
    for proxy in proxies:
        with httpx.Client(proxy=proxy) as via:
            via.get("http://api.test/")
    assert gateway.ask({"op": "stop"}) == {"ok": True, "op": "stop"}
    assert gateway.process.wait(PATIENCE_S) == 0
    for n in range(3):
        recorded = gateway.recorded(f"s{n}")
        assert recorded.closed["reason"] == "recorder stopped"
        assert recorded.closed["frames"] == 1 + len(recorded.frames)


def test_a_keeper_that_hangs_up_ends_it_too(start: Callable[[], Gateway]) -> None:
    gateway = start()
    gateway.listen("s")
    gateway.control.close()
    assert gateway.process.wait(PATIENCE_S) == 0
    assert gateway.recorded("s").closed["reason"] == "recorder stopped"


def test_unlisten_lets_what_is_under_way_end(start: Callable[[], Gateway], server: Server) -> None:
    gateway = start()

    def slow(handler: Handler) -> None:
        time.sleep(0.5)
        handler.answer(b"at last")

    server.routes["/slow"] = slow
    proxy = gateway.listen("s", upstream={"api.test": server.url})
    with ThreadPoolExecutor(1) as pool, httpx.Client(proxy=proxy) as via:
        pending = pool.submit(via.get, "http://api.test/slow")
        wait_for(lambda: gateway.recorded("s").of("request"), "the request")
        answer = gateway.unlisten("s")
        assert pending.result().text == "at last"
        with pytest.raises(httpx.ConnectError):
            httpx.get("http://api.test/", proxy=proxy)
    recorded = gateway.recorded("s")
    assert body(recorded.one("response")) == b"at last"
    assert answer["frames"] == 2 + len(recorded.frames)
    assert answer["stream"] == f"{recorded.opened['stream']:016x}"


def test_what_goes_on_for_too_long_after_its_session_is_cut_off(start: Callable[[], Gateway], server: Server) -> None:
    gateway = start()

    def endless(handler: Handler) -> None:
        handler.head(content_type="text/event-stream", transfer_encoding="chunked")
        try:
            while True:
                handler.chunk(b"data: x\n\n")
                time.sleep(0.05)
        except OSError:
            return

    server.routes["/endless"] = endless
    proxy = gateway.listen("s", upstream={"api.test": server.url})
    with ThreadPoolExecutor(1) as pool, httpx.Client(proxy=proxy) as via:
        pending = pool.submit(via.get, "http://api.test/endless")
        wait_for(lambda: gateway.recorded("s").of("chunk"), "a chunk")
        assert gateway.unlisten("s")["ok"]
        assert isinstance(pending.exception(), httpx.HTTPError)
    recorded = gateway.recorded("s")
    assert recorded.of("error", reason="aborted")
    assert [error for error in recorded.of("error") if error.get("cut")]
    assert recorded.closed["reason"] == "session ended"


def test_a_successor_takes_the_listener_over(start: Callable[[], Gateway], server: Server) -> None:
    # The keeper holds the listening socket: connections that come while there is no gateway wait in it.
    server.routes["/"] = lambda h: h.answer(b"ok")
    descriptor = {"upstream": {"api.test": server.url}}
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        first = start()
        first.ask({"op": "listen", "session": "s", "descriptor": descriptor}, (listener.fileno(),))
        assert httpx.get("http://api.test/1", proxy=proxy).status_code == 404
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(httpx.get, "http://api.test/2", proxy=proxy, timeout=PATIENCE_S)
            second = start()
            second.ask({"op": "listen", "session": "s", "descriptor": descriptor}, (listener.fileno(),))
            assert waiting.result().status_code == 404
    assert second.recorded("s").one("request")["url"] == "http://api.test/2"
    # What the first had recorded is all there.
    spools = b"".join(path.read_bytes() for path in sorted((second.home / "spool").glob("gateway.*")))
    assert b"http://api.test/1" in spools


def test_nothing_passes_that_cannot_be_recorded(start: Callable[[], Gateway], server: Server) -> None:
    gateway = start()
    proxy = gateway.listen("s", upstream={"api.test": server.url})
    with httpx.Client(proxy=proxy) as via:
        assert via.get("http://api.test/before").status_code == 404
        limit_files(gateway, spool_size(gateway))
        # A request is refused while it may still be on its way, and the connection with it: whether its sender gets to
        # read why or finds the connection gone is a race on its side. That nothing passed is what is held below.
        for content in (b"x", b"x", b"x", iter([b"x"])):
            with contextlib.suppress(httpx.TransportError):
                assert httpx.post("http://api.test/during", content=content, proxy=proxy).status_code == 503
        limit_files(gateway, resource.RLIM_INFINITY)
        assert httpx.get("http://api.test/after", proxy=proxy).status_code == 404
    assert [asked.path for asked in server.asked] == ["/before", "/after"]
    gateway.unlisten("s")
    gap = gateway.recorded("s").notes[0]
    assert (gap["note"], gap["count"] >= 4) == ("gap", True)
    assert gap["from_ns"] < gap["to_ns"]


def test_a_stream_that_cannot_be_recorded_any_more_is_cut(start: Callable[[], Gateway], server: Server) -> None:
    gateway = start()

    def events(handler: Handler) -> None:
        handler.head(content_type="text/event-stream", transfer_encoding="chunked")
        handler.chunk(b"data: recorded\n\n")
        wait_for(lambda: resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)[0] > 0, "the limit")
        handler.chunk(b"data: unrecorded\n\n")

    server.routes["/events"] = events
    got = b""
    proxy = gateway.listen("s", upstream={"api.test": server.url})
    with (
        httpx.Client(proxy=proxy) as via,
        via.stream("GET", "http://api.test/events") as response,
        pytest.raises(httpx.HTTPError),
    ):
        for piece in response.iter_raw():
            got += piece
            limit_files(gateway, spool_size(gateway))
    assert got == b"data: recorded\n\n"


def test_an_operator_may_choose_that_traffic_goes_on(start: Callable[[], Gateway], server: Server) -> None:
    gateway = start()
    proxy = gateway.listen("s", upstream={"api.test": server.url}, on_failure="pass")
    with httpx.Client(proxy=proxy) as via:
        via.get("http://api.test/before")
        limit_files(gateway, spool_size(gateway))
        assert via.get("http://api.test/during").status_code == 404
        limit_files(gateway, resource.RLIM_INFINITY)
        via.get("http://api.test/after")
    gateway.unlisten("s")
    recorded = gateway.recorded("s")
    assert [asked.path for asked in server.asked] == ["/before", "/during", "/after"]
    assert [frame["url"] for frame in recorded.of("request")] == ["http://api.test/before", "http://api.test/after"]
    assert recorded.notes[0]["count"] == 2


@pytest.mark.parametrize("choice", ["stop", "pass"])
def test_a_spool_that_somebody_has_removed_is_a_gap(start: Callable[[], Gateway], server: Server, choice: str) -> None:
    gateway = start()
    proxy = gateway.listen("s", upstream={"api.test": server.url}, on_failure=choice)
    with httpx.Client(proxy=proxy) as via:
        via.get("http://api.test/before")
        shutil.rmtree(gateway.home / "spool")
        assert via.get("http://api.test/during").status_code == (503 if choice == "stop" else 404)
    httpx.get("http://api.test/after", proxy=proxy)
    expected = ["/before", "/after"] if choice == "stop" else ["/before", "/during", "/after"]
    assert [asked.path for asked in server.asked] == expected
    gateway.unlisten("s")
    records = [record for path in gateway.spools() for _, record in parse_records(path.read_bytes())]
    notes = [cbor2.loads(payload) for r in records if r.kind == Kind.NOTE for _, payload in r.frames()]
    assert [(note["note"], note["count"]) for note in notes] == [("gap", 1)]
    assert b"http://api.test/after" in b"".join(path.read_bytes() for path in gateway.spools())


@pytest.mark.parametrize("choice", ["stop", "pass"])
def test_a_successor_keeps_the_choice_and_the_secrets(
    start: Callable[[], Gateway], server: Server, choice: str
) -> None:
    """As the keeper does it: one listener and one memory file, handed to the gateway and again to its successor."""
    secret = make_secret("API_KEY", "correct-horse-9-battery", ["api.test"])
    described = [{"name": secret.name, "hosts": list(secret.hosts)}]
    descriptor = {"secrets": described, "on_failure": choice, "upstream": {"api.test": server.url}}
    handed = write_handed([secret])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        message = {"op": "listen", "session": "s", "descriptor": descriptor}
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for _ in range(2):
            gateway = start()
            assert gateway.ask(message, (listener.fileno(), handed))["ok"]
            httpx.get("http://api.test/", headers={"x-key": secret.placeholder}, proxy=proxy)
            assert server.asked[-1].headers["x-key"] == secret.value
            assert httpx.get("http://x.test/", headers={"x-key": secret.placeholder}, proxy=proxy).status_code == 403
            assert gateway.recorded("s").opened["on_failure"] == choice
            gateway.process.kill()
            gateway.process.wait()
    os.close(handed)


def test_requests_that_make_no_sense_are_answered(gateway: Gateway, session: str) -> None:
    for message in ({}, {"op": "listen"}, *({"op": op, "session": session} for op in ("listen", "unlisten", "dance"))):
        answer = gateway.ask(message)
        assert answer["ok"] is False
        assert answer["error"]
    assert gateway.listen(session)


def test_logs_are_structured_and_hold_no_traffic(start: Callable[[], Gateway], server: Server) -> None:
    gateway = start()
    proxy = gateway.listen("s", upstream={"api.test": server.url})
    httpx.get("http://api.test/marker-in-the-path", headers={"x-marker": "marker-in-a-header"}, proxy=proxy)
    httpx.post("http://nobody.invalid/", content=b"marker-in-the-body", proxy=proxy)
    with socket.create_connection(("127.0.0.1", int(proxy.rsplit(":", 1)[1]))) as raw:
        raw.sendall(b"marker garbage\r\nmarker\r\n\r\n")
        raw.recv(1000)
    gateway.close()
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert {"listening", "closed"} <= {line["event"] for line in lines}
    assert "marker" not in gateway.log.read_text()


def test_the_authority_is_made_once_and_its_key_is_ours_alone(home: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: ensure_ca(home), range(4)))
    assert len(set(paths)) == 1
    certificate = x509.load_pem_x509_certificate(paths[0].read_bytes())
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    folder = paths[0].parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "mitmproxy-ca.pem").stat().st_mode) == 0o600
    assert b"PRIVATE KEY" not in paths[0].read_bytes()
    before = paths[0].read_bytes()
    assert ensure_ca(home).read_bytes() == before


def test_the_fingerprint_key_is_made_once_and_is_ours_alone(home: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        marks = set(pool.map(lambda _: Fingerprinter.load(home).mark("x", b"secret"), range(4)))
    assert len(marks) == 1
    key = home / "keys" / "fingerprint.key"
    # 32 bytes and nothing else, as in every home since the first: what was marked under it stays the same secret.
    key.write_bytes(bytes(range(32)))
    assert Fingerprinter.load(home).mark("x", b"secret") == "{{credential:x:723f228d66d0f98d}}"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o644)
    with pytest.raises(StoreError):
        Fingerprinter.load(home)
    key.chmod(0o600)
    key.write_bytes(b"short")
    with pytest.raises(StoreError):
        Fingerprinter.load(home)


def test_the_control_socket_is_what_the_keeper_expects(start: Callable[[], Gateway]) -> None:
    gateway = start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        message = {"op": "listen", "session": "s", "descriptor": {"sandbox": "box"}}
        send(gateway.control, message, [listener.fileno()])
        answer, fds = receive(gateway.control)
    assert answer is not None
    assert fds == []
    assert (answer["ok"], answer["op"], answer["session"]) == (True, "listen", "s")
    assert gateway.recorded("s").opened["source"] == "gateway"
