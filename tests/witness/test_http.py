"""The witness's HTTP server against clients of every kind."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# Answers with what it was asked; `/slow` says that it has begun and waits for a file, `/broken` fails.
SERVER = """
import sys, time
from pathlib import Path
from sandtrail.witness.http import serve
from sandtrail.witness.protocol import Reply

def handle(method, path, body):
    if path == "/slow":
        sys.stdout.write("begun\\n")  # at one go: print writes text and line end apart, and threads come between
        sys.stdout.flush()
        while not Path(sys.argv[4]).exists():
            time.sleep(0.01)
    if path == "/broken":
        raise RuntimeError(path)
    return Reply(200, method.encode() + b" " + path.encode("latin-1") + b" " + body)

options = dict(max_body=1000, patience=float(sys.argv[1]), idle=float(sys.argv[2]), connections=int(sys.argv[3]))
serve(handle, "127.0.0.1", 0, ready=lambda url: print(url, flush=True), **options)
"""


class Server:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], go: Path) -> None:
        self.process, self.go = process, go
        self.url = self.line()

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


@contextmanager
def running(go: Path, patience: float = 30, idle: float = 30, connections: int = 100) -> Iterator[Server]:
    command = [sys.executable, "-c", SERVER, str(patience), str(idle), str(connections), str(go)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield Server(process, go)
        finally:
            go.touch()  # whoever still waits for it would keep the server from leaving
            process.terminate()
            assert process.wait(60) == 0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("server") / "go") as server:
        yield server.url


def connect(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def read_all(sock: socket.socket) -> bytes:
    found = b""
    while piece := sock.recv(65536):
        found += piece
    return found


def test_it_answers_what_it_was_asked(url: str) -> None:
    assert httpx.post(f"{url}/a?query", content=b"body").text == "POST /a body"
    assert httpx.get(f"{url}/").headers["content-type"] == "text/plain; charset=utf-8"
    head = httpx.head(f"{url}/a")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "8", b"")


def test_a_connection_serves_many_requests(url: str) -> None:
    with connect(url) as sock:
        sock.sendall(
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        found = read_all(sock)
    assert found.count(b"GET /1 ") == 3
    assert found.count(b"GET /2 ") == 1


def test_a_body_may_come_in_pieces_and_after_a_question(url: str) -> None:
    assert httpx.post(url, content=iter([b"a", b"b", b"c"])).text == "POST / abc"
    with connect(url) as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        )
        assert sock.recv(1000).startswith(b"HTTP/1.1 100")
        sock.sendall(b"xy")
        assert b"POST / xy" in read_all(sock)


def test_what_is_too_large_is_413_and_the_client_hears_of_it(url: str) -> None:
    assert httpx.post(url, content=b"x" * 1000).status_code == 200
    assert httpx.post(url, content=b"x" * 1001).status_code == 413
    assert httpx.post(url, content=b"x" * (4 << 20)).status_code == 413
    assert httpx.post(url, content=iter([b"x" * 600] * 2)).status_code == 413


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 nothing like HTTP\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nLong: " + b"x" * 40_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_next_one_is_served(url: str, sent: bytes) -> None:
    with connect(url) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        found = read_all(sock)
    assert found.startswith(b"HTTP/1.1 4")
    assert httpx.get(url).status_code == 200


PIECES = st.lists(
    st.sampled_from([b"POST / HTTP/1.1\r\n", b"Host: x\r\n", b"Content-Length: 3\r\n", b"\r\n", b"abc", b"0\r\n"])
    | st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n"])
    | st.binary(max_size=8),
    max_size=12,
).map(b"".join)


@settings(max_examples=60, deadline=None)
@given(sent=PIECES)
def test_whatever_is_sent_is_answered_or_hung_up_on(url: str, sent: bytes) -> None:
    with connect(url) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        found = read_all(sock)
    assert not found or found.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 500" not in found
    assert httpx.get(url).status_code == 200


def test_a_client_that_goes_away_disturbs_nobody(url: str) -> None:
    for sent in (b"", b"GE", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"):
        with connect(url) as sock:
            sock.sendall(sent)
    assert httpx.get(url).status_code == 200


def test_a_failure_is_one_requests_own(url: str) -> None:
    assert httpx.get(f"{url}/broken").status_code == 500
    assert httpx.get(url).status_code == 200


def test_answers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with running(tmp_path / "go") as server, ThreadPoolExecutor(3) as pool:
        slow = [pool.submit(httpx.get, f"{server.url}/slow", timeout=60) for _ in range(3)]
        assert [server.line() for _ in slow] == ["begun"] * 3
        assert httpx.get(server.url).status_code == 200
        server.go.touch()
        assert [one.result().text for one in slow] == ["GET /slow "] * 3


def test_whoever_dawdles_is_sent_away(tmp_path: Path) -> None:
    with running(tmp_path / "go", patience=0.5) as server, connect(server.url) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert read_all(sock).startswith(b"HTTP/1.1 408")


def test_whoever_says_nothing_is_hung_up_on(tmp_path: Path) -> None:
    with running(tmp_path / "go", idle=0.5) as server, connect(server.url) as sock:
        assert read_all(sock) == b""


def test_connections_are_counted_and_freed(tmp_path: Path) -> None:
    with running(tmp_path / "go", connections=2) as server:
        with connect(server.url) as first, connect(server.url) as second:
            for sock in (first, second):
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert sock.recv(1000).startswith(b"HTTP/1.1 200")
            with connect(server.url) as third:
                assert third.recv(1) == b""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                assert httpx.get(server.url).status_code == 200
                return
            except httpx.HTTPError:
                continue
        raise AssertionError("the freed connections were never given out again")


def test_whoever_is_being_answered_at_the_end_still_gets_the_reply(tmp_path: Path) -> None:
    with running(tmp_path / "go") as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{server.url}/slow", timeout=60)
        assert server.line() == "begun"
        server.process.terminate()
        server.go.touch()
        assert asked.result().text == "GET /slow "
        assert server.process.wait(60) == 0
