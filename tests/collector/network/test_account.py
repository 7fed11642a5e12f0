"""The account of a link: every frame is in it once, and what goes around it shows to the byte."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sandtrail.collector.network import namespaces, rules, wire
from sandtrail.collector.network.account import Account, Sum
from sandtrail.replay.decode.netfilter import add_flows, conntrack_events, nflog_events
from tests.collector.network.frames import BROKEN, checksummed, frame, raw

pytestmark = pytest.mark.needs("root", "ip", "nft")

NOTHING = Sum()
FAR = "192.0.2.7"


def finished(link: wire.Wire) -> Account:
    account = wire.finish(link.wire.removeprefix("st-").removesuffix("-wire"))
    assert account.steady
    return account


def difference(link: wire.Wire) -> tuple[Sum, Sum]:
    """(up, down) of the last account."""
    found = finished(link).difference
    return found["up"], found["down"]


def exchange(link: wire.Wire, up: int, down: int) -> None:
    """So many bytes each way through the listener's port, from a connection that is closed on both sides."""

    def serve() -> None:
        near, _ = link.listener.accept()
        with near:
            left = up
            while left:
                left -= len(near.recv(65536))
            near.sendall(b"y" * down)

    server = threading.Thread(target=serve)
    server.start()
    with namespaces.inside(
        link.sandbox, lambda: socket.create_connection((wire.WIRE_ADDRESS, wire.GATEWAY_PORT), 10)
    ) as far:
        far.sendall(b"x" * up)
        left = down
        while left:
            left -= len(far.recv(65536))
    server.join()


def datagram(link: wire.Wire, address: tuple[str, int], data: bytes = b"?") -> None:
    def act() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, contextlib.suppress(ConnectionRefusedError):
            udp.connect(address)
            udp.send(data)

    namespaces.inside(link.sandbox, act)


def connect(link: wire.Wire, address: tuple[str, int]) -> None:
    """Try; whether it is refused is the mode's affair."""
    with contextlib.suppress(ConnectionRefusedError):
        namespaces.inside(link.sandbox, lambda: socket.create_connection(address, 10)).close()


def everything(link: wire.Wire) -> None:
    """One of each: what passes, what is refused, what is dropped, and what is no IPv4 at all."""
    exchange(link, 300_000, 500_000)
    connect(link, (FAR, 22))
    for port in (443, 53, 5000):
        datagram(link, (FAR, port), b"x" * 1200)
    datagram(link, (FAR, 5000), b"in several fragments" * 400)
    raw(link, frame(b"\x60".ljust(60, b"\0"), 0x86DD))
    raw(link, b"\xff" * 6 + b"\2" * 6 + b"\x81\0\0\5\x08\0" + b"\x45".ljust(60, b"\0"))  # a VLAN tag
    raw(link, frame(checksummed(FAR, b"to nobody here"), to=b"\2\1\1\1\1\1"))
    raw(link, frame(checksummed(FAR, b"from somebody else", src="10.9.9.9")))
    raw(link, frame(checksummed(FAR, struct.pack(">HHIIBBHHH", 42, 43, 1, 1, 0x50, 0x10, 512, 0, 0), protocol=6)))


@pytest.mark.parametrize("mode", rules.EGRESS_MODES)
def test_everything_on_the_link_is_accounted_for(make_link: Callable[..., wire.Wire], mode: rules.EgressMode) -> None:
    link = make_link(mode)
    everything(link)
    account = finished(link)
    assert account.difference == {"up": NOTHING, "down": NOTHING}, account.described()
    assert account.link["up"].bytes > 308_000
    counted = {prefix for prefix, total in account.logged.items() if total.packets}
    assert counted >= {"flow:allow", "flow:quic", "flow:spoof", "ether", "fragment", "invalid"}
    assert account.tagged == 1


def test_an_account_that_is_read_while_traffic_flows_never_invents_a_difference(link: wire.Wire) -> None:
    session = link.wire.removeprefix("st-").removesuffix("-wire")
    busy = threading.Thread(target=exchange, args=(link, 8_000_000, 8_000_000))
    busy.start()
    while busy.is_alive():
        account = wire.running(session)
        if account.steady:
            assert account.difference == {"up": NOTHING, "down": NOTHING}
    busy.join()
    assert difference(link) == (NOTHING, NOTHING)


def test_the_flows_that_are_reported_add_up_to_what_passed(link: wire.Wire) -> None:
    assert link.conntrack is not None
    for size in (1, 10_000, 200_000):
        exchange(link, size, size)
    still_open = namespaces.inside(
        link.sandbox, lambda: socket.create_connection((wire.WIRE_ADDRESS, wire.GATEWAY_PORT), 10)
    )
    account = finished(link)
    still_open.close()
    sums: dict[str, Any] = {}
    link.conntrack.settimeout(1)
    with contextlib.suppress(TimeoutError):
        while sums.get("flows") != 4:
            add_flows(sums, conntrack_events(link.conntrack.recv(1 << 17), wire.SANDBOX_ADDRESS))
    assert sums["up"] == account.classes["up"]["flows"]._asdict()
    assert sums["down"] == account.classes["down"]["flows"]._asdict()


def test_a_frame_that_the_filter_never_sees_is_a_difference_of_its_size(link: wire.Wire) -> None:
    exchange(link, 1000, 1000)
    raw(link, BROKEN)
    assert difference(link) == (Sum(1, len(BROKEN)), NOTHING)


def test_bytes_behind_a_packet_are_a_difference(link: wire.Wire) -> None:
    packet = checksummed(FAR, b"a packet")
    raw(link, frame(packet + b"and a secret behind it"))
    assert difference(link) == (Sum(0, len(b"and a secret behind it")), NOTHING)


def test_what_is_taken_off_the_link_below_the_filter_is_a_difference(link: wire.Wire) -> None:
    around = """
    table netdev around {
      chain first { type filter hook ingress device "wire0" priority -600; policy accept; udp dport 7777 drop; }
    }"""
    namespaces.inside(link.wire, lambda: namespaces.tool("nft", "-f", "-", stdin=around))
    datagram(link, (FAR, 7777), b"x" * 100)
    datagram(link, (FAR, 7778), b"x" * 100)
    assert difference(link) == (Sum(1, 14 + 20 + 8 + 100), NOTHING)


def test_rules_that_are_taken_away_show_as_a_difference(link: wire.Wire) -> None:
    namespaces.inside(link.wire, lambda: namespaces.tool("nft", "flush", "chain", "inet", rules.TABLE, "from_sandbox"))
    datagram(link, (FAR, 9), b"x" * 10)
    up, _ = difference(link)
    assert up == Sum(1, 14 + 20 + 8 + 10)


@pytest.mark.parametrize("below", [False, True], ids=["beside the filter", "below the filter"])
def test_what_is_sent_into_the_sandbox_around_the_filter_is_a_difference(link: wire.Wire, below: bool) -> None:
    def act() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            if below:
                sock.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
            sock.bind(("wire0", 0))
            sock.send(frame(checksummed(wire.SANDBOX_ADDRESS, b"hello inside")))

    exchange(link, 1000, 1000)
    namespaces.inside(link.wire, act)
    assert difference(link) == (NOTHING, Sum(1, 14 + 20 + len(b"hello inside")))


def test_a_link_that_is_gone_has_no_account(link: wire.Wire) -> None:
    namespaces.tool("ip", "-n", link.wire, "link", "del", "wire0")
    with pytest.raises(Exception, match=r"wire0"):
        finished(link)


def test_a_flood_is_counted_to_the_packet_and_logged_as_far_as_its_share_goes(link: wire.Wire) -> None:
    sent = 30_000
    numbers: list[int] = []
    link.nflog.settimeout(0.5)
    over = threading.Event()

    def read() -> None:
        while True:
            try:
                found = nflog_events(link.nflog.recv(1 << 17))
            except TimeoutError:
                if over.is_set():
                    return
                continue
            numbers.extend(number for number, _ in found if number is not None)

    reader = threading.Thread(target=read)
    reader.start()

    def flood() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("eth0", 0))
            to = bytes.fromhex(link_address(link).replace(":", ""))
            for number in range(sent):
                syn = struct.pack(">HHIIBBHHH", 1024 + number % 60_000, 80, 1, 0, 0x50, 2, 512, 0, 0)
                data = frame(checksummed(FAR, syn, protocol=6), to=to)
                while True:
                    with contextlib.suppress(OSError):  # the machine's own queue is full
                        sock.send(data)
                        break

    namespaces.inside(link.sandbox, flood)
    time.sleep(0.1)
    account = finished(link)
    over.set()
    reader.join()
    assert account.difference == {"up": NOTHING, "down": NOTHING}, account.described()
    logged = sum(total.packets for total in account.logged.values())
    arrived = account.link["up"].packets - account.classes["up"]["arp"].packets
    assert logged + account.unlogged == arrived
    assert arrived + account.lost["up"] <= sent
    assert len(numbers) == logged
    assert numbers == list(range(logged))
    assert logged >= rules.LOGGED_AT_ONCE
    assert account.unlogged > 0, "the flood is no flood"


def link_address(link: wire.Wire) -> str:
    """The wire's Ethernet address."""
    words = namespaces.tool("ip", "-n", link.wire, "-o", "link", "show", "wire0").split()
    return words[words.index("link/ether") + 1]


def test_ends_of_flows_that_found_the_buffer_full_are_told_again(make_link: Callable[..., wire.Wire]) -> None:
    link = make_link("transparent")
    assert link.conntrack is not None
    link.conntrack.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    count = 400

    def ask() -> None:
        to = bytes.fromhex(link_address(link).replace(":", ""))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("eth0", 0))
            for port in range(20_000, 20_000 + count):
                question = struct.pack(">HHHH", port, 53, 8, 0)
                sock.send(frame(checksummed(wire.WIRE_ADDRESS, question, protocol=17), to=to))

    namespaces.inside(link.sandbox, ask)
    account = finished(link)
    assert account.difference == {"up": NOTHING, "down": NOTHING}, account.described()
    sums: dict[str, Any] = {}
    overruns = 0
    link.conntrack.settimeout(20)
    while sums.get("flows", 0) < count:
        try:
            add_flows(sums, conntrack_events(link.conntrack.recv(1 << 17), wire.SANDBOX_ADDRESS))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            overruns += 1
    assert overruns, "the buffer was never full"
    assert sums["up"] == account.classes["up"]["flows"]._asdict()
