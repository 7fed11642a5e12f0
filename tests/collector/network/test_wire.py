"""A sandbox's link: what passes, what is refused, and that nothing goes unrecorded."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from sandtrail.collector.network import namespaces, wire
from sandtrail.errors import EnvironmentRefusedError

pytestmark = pytest.mark.needs("root", "ip", "nft")


def session_of(link: wire.Wire) -> str:
    return link.wire.removeprefix("st-").removesuffix("-wire")


def connect(address: tuple[str, int]) -> str:
    try:
        socket.create_connection(address, 60).close()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    return "connected"


def datagrams(sock: socket.socket) -> list[bytes]:
    sock.settimeout(0.4)
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            found.append(sock.recv(1 << 17))
    return found


def attributes(message: bytes, at: int) -> dict[int, bytes]:
    found = {}
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("<HH", message, at)
        found[kind & 0x3FFF] = message[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def logged(sock: socket.socket) -> list[tuple[str, bytes]]:
    """(prefix, packet) of each logged packet."""
    found = []
    for datagram in datagrams(sock):
        at = 0
        while at + 16 <= len(datagram):
            (length,) = struct.unpack_from("<I", datagram, at)
            told = attributes(datagram[at : at + length], 20)
            if 10 in told:
                found.append((told[10].rstrip(b"\0").decode(), told.get(9, b"")))
            at += (length + 3) & ~3
    return found


def test_the_gateway_can_be_reached_and_nothing_else(link: wire.Wire) -> None:
    def act() -> list[str]:
        return [
            connect(a) for a in ((wire.WIRE_ADDRESS, wire.GATEWAY_PORT), (wire.WIRE_ADDRESS, 81), ("192.0.2.7", 443))
        ]

    assert namespaces.inside(link.sandbox, act) == ["connected", "ECONNREFUSED", "ECONNREFUSED"]
    # Refused at the first try: one that is left without an answer is sent again, and logged again.
    assert [prefix for prefix, _ in logged(link.nflog)] == ["flow:allow", "flow:reject", "flow:reject"]


def test_a_dns_question_is_recorded_whole_and_refused(link: wire.Wire) -> None:
    question = b"\0\7\1\0\0\1\0\0\0\0\0\0\6secret\5exfil\4test\0\0\1\0\1"

    def act() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(60)
            udp.connect((wire.WIRE_ADDRESS, 53))
            udp.send(question)
            try:
                return repr(udp.recv(512))
            except OSError as error:
                return errno.errorcode[error.errno or 0]

    assert namespaces.inside(link.sandbox, act) == "ECONNREFUSED"
    ((prefix, packet),) = logged(link.nflog)
    assert prefix == "dns:query"
    assert packet.endswith(question)


def test_frames_that_are_not_ipv4_are_seen_too(link: wire.Wire) -> None:
    def act() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            for ethertype in (b"\x86\xdd", b"\x88\xb5"):
                raw.send(b"\xff" * 6 + b"\2" * 6 + ethertype + b"\x60".ljust(60, b"\0"))

    namespaces.inside(link.sandbox, act)
    assert [prefix for prefix, _ in logged(link.nflog)] == ["ether", "ether"]
    assert wire.finish(session_of(link)).logged["ether"].packets == 2


def test_a_flow_that_passed_is_reported_with_its_volume_even_if_it_never_ended(link: wire.Wire) -> None:
    assert link.conntrack is not None
    address = (wire.WIRE_ADDRESS, wire.GATEWAY_PORT)
    flow = namespaces.inside(link.sandbox, lambda: socket.create_connection(address, 60))
    flow.sendall(b"x" * 10_000)
    link.listener.settimeout(60)
    arrived, _ = link.listener.accept()
    with flow, arrived, arrived.makefile("rb") as reader:
        assert len(reader.read(10_000)) == 10_000
        account = wire.finish(session_of(link))
    told = datagrams(link.conntrack)
    kinds = [struct.unpack_from("<H", message, 4)[0] & 0xFF for message in told]
    assert kinds == [0, 2], "the flow's beginning and its end"
    # CTA_COUNTERS_ORIG and in it CTA_COUNTERS_BYTES, linux/netfilter/nfnetlink_conntrack.h
    volume = int.from_bytes(attributes(attributes(told[1], 20)[9], 0)[2], "big")
    assert 10_000 <= volume < 12_000
    assert account.logged["flow:allow"].packets == 1


def test_two_sandboxes_with_the_same_addresses_do_not_meet(link: wire.Wire) -> None:
    other = f"{session_of(link)}b"
    try:
        second = wire.Wire.create(other)
        assert namespaces.inside(second.sandbox, lambda: connect((wire.WIRE_ADDRESS, 22))) == "ECONNREFUSED"
        assert logged(link.nflog) == []
        assert [prefix for prefix, _ in logged(second.nflog)] == ["flow:reject"]
        second.close()
    finally:
        wire.remove(other)


def test_a_reader_that_is_too_slow_learns_that_something_is_missing(link: wire.Wire) -> None:
    link.nflog.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def act() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for port in range(2000, 6000):
                with contextlib.suppress(OSError):
                    udp.sendto(b"x" * 1000, ("192.0.2.7", port))

    namespaces.inside(link.sandbox, act)
    link.nflog.settimeout(0.5)
    with pytest.raises(OSError) as refusal:
        while True:
            link.nflog.recv(1 << 17)
    assert refusal.value.errno == errno.ENOBUFS


def test_the_hosts_own_rules_and_links_stay_as_they_are() -> None:
    def host() -> list[str]:
        commands = (["nft", "list", "ruleset"], ["ip", "-o", "addr"], ["ip", "route"])
        return [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]

    before = host()
    session = f"test{os.getpid()}h"
    try:
        wire.Wire.create(session).close()
        assert host() == before
    finally:
        wire.remove(session)
    assert host() == before
    assert not [name for name in wire.namespace_names(session) if (namespaces.NETNS / name).exists()]
    wire.remove(session)  # twice is fine


def test_what_fails_inside_fails_outside_and_this_process_stays_where_it_is(link: wire.Wire) -> None:
    here = Path("/proc/thread-self/ns/net").readlink()

    def act() -> Path:
        raise LookupError(str(Path("/proc/thread-self/ns/net").readlink()))

    with pytest.raises(LookupError) as failure:
        namespaces.inside(link.sandbox, act)
    assert str(failure.value) != str(here)
    assert Path("/proc/thread-self/ns/net").readlink() == here


def test_a_name_that_is_taken_is_refused_with_the_programs_words(link: wire.Wire) -> None:
    with pytest.raises(EnvironmentRefusedError, match="ip netns add"):
        namespaces.create(link.wire)
