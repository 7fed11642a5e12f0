"""Protocols that the gateway reads do not get past it as bytes, however their clients begin."""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.gateway.unread import ANSWER, answer_of, no_request, undecided
from tests.collector.gateway.harness import Gateway, body, wait_for
from tests.collector.gateway.test_tunnels import tunnel
from tests.collector.gateway.upstream import Server

HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x16", True),
        (b"\x16\x03", True),
        (HELLO, False),
        (b"\x16\x04", False),
        (b"\r\n\r\n", True),
        (b"G", True),
        (b"\r\nPO", True),
        (b"GET /half/a/line HTTP/1.1", True),
        (b"BREW http://pot.test/ HTTP/1.1\r", True),
        (b"GET / HTTP/1.1\r\n", False),
        (b"SSH-2.0-client Debian\r\n", False),
        (b"SSH-2.0-client Debian", False),
        (b"hello world", False),
        (b"PING", False),
        (b"0032git-upload-pack /project.git\0host=git.test\0", False),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", False),
        (b"GET /" + b"x" * (1 << 20), False),
    ],
)
def test_a_beginning_that_may_become_tls_or_a_request_is_waited_with(data: bytes, expected: bool) -> None:
    assert undecided(data) == expected


@given(st.binary(max_size=2 * ANSWER))
def test_any_bytes_are_an_answer_of_something_or_of_nothing(data: bytes) -> None:
    assert answer_of(data) in ("", "TLS", "HTTP", "HTTP/2")
    assert isinstance(undecided(data), bool)
    assert isinstance(no_request(data), bool)


WORDS = [b"EHLO client.test\r\n", b"HELO host.test\r\n", b"NICK bob\n", b"set key 0 0 1\r\n1\r\n", b"LIST 1 2"]


@pytest.mark.parametrize("data", WORDS)
def test_words_of_other_protocols_are_no_request(data: bytes) -> None:
    assert no_request(data)
    assert not undecided(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"get x\r\n",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"BREW pot HTTP/1.1\r\n",
        b"BREW http://pot.test/ HTTP/1.1 \n",
        b"BREW  / HTTP/1.1\r\n",
        b"BREW http://pot.te",
        HELLO,
    ],
)
def test_what_may_be_a_request_is_not_taken_for_words(data: bytes) -> None:
    assert not no_request(data)


@pytest.mark.needs("root", "ip")
@pytest.mark.parametrize("words", WORDS)
def test_words_that_are_no_request_pass_as_bytes(
    neighbourly: Gateway, neighbour: str, session: str, words: bytes
) -> None:
    proxy = neighbourly.listen(session)
    with tunnel(proxy, f"{neighbour}:2223") as raw:
        raw.sendall(words)
        got = b""
        while len(got) < len(words) - 5 and (data := raw.recv(4096)):
            got += data
    assert got == words[5:]
    wait_for(lambda: neighbourly.recorded(session).of("close"), "the end")
    recorded = neighbourly.ended(session)
    assert b"".join(body(f, "data") for f in recorded.of("tcp", **{"from": "client"}) if "data" in f) == words


@pytest.mark.parametrize("first", [1, 2])
def test_tls_whose_first_bytes_come_alone_is_opened_all_the_same(
    gateway: Gateway, session: str, server: Server, first: int
) -> None:
    proxy = gateway.listen(session, upstream={"api.test": server.url})
    context = ssl.create_default_context(cafile=str(gateway.home / "gateway" / "mitmproxy-ca-cert.pem"))
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(coming, going, server_hostname="api.test")
    with tunnel(proxy, "api.test:443") as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def until[T](act: Callable[[], T]) -> T:
            while True:
                try:
                    return act()
                except ssl.SSLWantReadError:
                    data = going.read()
                    for part in (data[:first], data[first:]):
                        raw.sendall(part)
                        # The next part has to come by itself.
                        wait_for(lambda: sent_of(raw) == 0, "the gateway to have it")
                    coming.write(raw.recv(65_536) or pytest.fail("hung up on"))

        until(tls.do_handshake)
        raw.sendall(going.read())
        tls.write(b"GET /read HTTP/1.1\r\nHost: api.test\r\n\r\n")
        raw.sendall(going.read())
        assert b" 404 " in until(lambda: tls.read(100))
    recorded = gateway.ended(session)
    assert recorded.one("tls")["established"]
    assert recorded.of("tcp") == []
    assert recorded.of("request")[0]["url"] == "https://api.test/read"


def sent_of(raw: socket.socket) -> int:
    """What the peer has not acknowledged yet: SIOCOUTQ."""
    return int(struct.unpack("i", fcntl.ioctl(raw, 0x5411, b"\0" * 4))[0])


@pytest.mark.needs("root", "ip")
@pytest.mark.parametrize(
    ("answer", "spoken"),
    [
        (b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03", "TLS"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "HTTP"),
        (b"\0\0\x12\x04\0\0\0\0\0\0\x03", "HTTP/2"),
        (b"+OK TLS is later\r\n", ""),
    ],
)
def test_a_tunnel_ends_where_the_answer_shows_what_it_is(
    neighbourly: Gateway, neighbour: str, session: str, answer: bytes, spoken: str
) -> None:
    proxy = neighbourly.listen(session)
    with tunnel(proxy, f"{neighbour}:2223") as raw:
        raw.sendall(b"\0\0\0\0\0" + answer)
        got = b""
        while len(got) < len(answer) and (data := raw.recv(4096)):
            got += data
    assert got == (answer if not spoken else b"")
    wait_for(lambda: neighbourly.recorded(session).of("close"), "the end")
    recorded = neighbourly.ended(session)
    assert [error["message"].split()[0] for error in recorded.of("error", reason="unread")] == [spoken] * bool(spoken)
    assert [body(f, "data") for f in recorded.of("tcp", **{"from": "server"}) if "data" in f] == [answer]


def test_a_request_behind_empty_lines_is_a_request(gateway: Gateway, session: str, server: Server) -> None:
    proxy = gateway.listen(session, upstream={"api.test": server.url})
    with tunnel(proxy, "api.test:80") as raw:
        raw.sendall(b"\r\n\r\nGET /read HTTP/1.1\r\nHost: api.test\r\n\r\n")
        assert b" 404 " in raw.recv(4096)
    recorded = gateway.ended(session)
    assert recorded.of("request")[0]["url"] == "http://api.test/read"
    assert recorded.of("tcp") == []
