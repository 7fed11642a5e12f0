"""The packet filter's datagrams: the real ones of record_netfilter.py's story, and made ones."""

from __future__ import annotations

from struct import pack
from typing import Any

import dns.message
import dns.rrset
import pytest

from sandtrail.collector.network.rules import PREFIXES
from sandtrail.replay.decode.netfilter import conntrack_events, nflog_events
from sandtrail.replay.decode.packets import read_dns, read_packet, server_name
from tests.replay.decode.recorded import netfilter

Told = tuple[str, int, str, int | None, dict[str, Any]]


def attribute(kind: int, value: bytes) -> bytes:
    return pack("<HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(kind: int, body: bytes, family: int = 2, flags: int = 0) -> bytes:
    body = pack(">BBH", family, 0, 0) + body
    return pack("<IHHII", 16 + len(body), kind, flags, 0, 0) + body + b"\0" * (-len(body) % 4)


def logged(prefix: str, payload: bytes, seq: int = 0) -> bytes:
    attributes = attribute(10, prefix.encode() + b"\0") + attribute(9, payload) + attribute(12, pack(">I", seq))
    return message(0x400, attribute(1, b"\x08\x00\x00\x00") + attribute(3, pack(">QQ", 7, 5)) + attributes)


def ipv4(protocol: int, rest: bytes, src: str = "10.0.0.2", dst: str = "192.0.2.7") -> bytes:
    addresses = bytes(map(int, f"{src}.{dst}".split(".")))
    return pack(">BBHHHBBH", 0x45, 0, 20 + len(rest), 0, 0, 64, protocol, 0) + addresses + rest


def udp(dport: int, body: bytes, sport: int = 4000) -> bytes:
    return pack(">HHHH", sport, dport, 8 + len(body), 0) + body


def tcp(dport: int, body: bytes, flags: int = 0x18) -> bytes:
    return pack(">HHIIBBHHH", 4000, dport, 1, 1, 0x50, flags, 512, 0, 0) + body


def one(datagram: bytes) -> Told:
    ((_, event),) = nflog_events(datagram)
    return event


def client_hello(name: bytes) -> bytes:
    host = pack(">HBH", len(name) + 3, 0, len(name)) + name
    extensions = pack(">HH", 0, len(host)) + host
    body = b"\x03\x03" + b"r" * 32 + b"\0" + pack(">H", 2) + b"\x13\x01" + b"\x01\0"
    body += pack(">H", len(extensions)) + extensions
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + pack(">H", len(hello)) + hello


def test_the_story_of_refused_and_passed_flows() -> None:
    told = [(seq, event) for datagram in netfilter("nflog") for seq, event in nflog_events(datagram)]
    assert [seq for seq, _ in told] == list(range(12))
    flows = [(e[2], e[4]["verdict"], e[4]["proto"]) for _, e in told if e[0] == "net.flow"]
    assert flows == [
        ("10.219.0.1:3128", "allow", "tcp"),
        ("192.0.2.7:443", "reject", "tcp"),
        ("198.51.100.9:22", "reject", "tcp"),
        ("10.219.0.1:53", "reject", "tcp"),
        ("192.0.2.7:443", "reject", "udp"),
        ("192.0.2.7:0", "reject", "icmp"),
        ("192.0.2.7:4343", "invalid", "tcp"),
        ("[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:0", "ether", "ip:59"),
        ("ether:88b5", "ether", "ether:88b5"),
    ]
    names = [(e[2], e[4]["type"], e[4]["answer"], e[4]["peer"]) for _, e in told if e[0] == "net.dns"]
    assert names == [
        ("example.test", "A", False, "10.219.0.1:53"),
        ("secret-0123456789.exfil.test", "AAAA", False, "10.219.0.1:53"),
        ("example.test", "A", False, "192.0.2.53:53"),
    ]
    assert all(1_700_000_000 < event[1] / 1e9 < 2_000_000_000 for _, event in told)


def test_the_story_of_a_flow_from_beginning_to_end() -> None:
    begin, end = [e for d in netfilter("conntrack") for e in conntrack_events(d, "10.219.0.2")]
    assert (begin[0], begin[2]) == ("net.flow", "10.219.0.1:3128")
    assert (end[0], end[2]) == ("net.flow_end", "10.219.0.1:3128")
    assert begin[4]["sport"] == end[4]["sport"]
    assert end[4]["sent"]["bytes"] > 10_000
    assert 500 < end[4]["received"]["bytes"] < 2000
    assert end[3] == end[4]["sent"]["bytes"]
    assert end[4]["start_ns"] < end[4]["stop_ns"]


def test_a_flow_towards_the_sandbox_is_told_from_its_side() -> None:
    (_, end) = [e for d in netfilter("conntrack") for e in conntrack_events(d, "10.219.0.1")]
    assert end[2].startswith("10.219.0.2:")
    assert end[4]["verdict"] == "inbound"
    assert end[4]["received"]["bytes"] > 10_000


def test_several_packets_of_one_datagram() -> None:
    datagram = logged("flow:reject", ipv4(17, udp(1, b"")), 4) + logged("flow:reject", ipv4(17, udp(2, b"")), 5)
    assert [(seq, event[2]) for seq, event in nflog_events(datagram)] == [(4, "192.0.2.7:1"), (5, "192.0.2.7:2")]


def test_times_come_from_the_kernel() -> None:
    assert one(logged("flow:reject", ipv4(17, udp(1, b""))))[1] == 7_000_005_000


def test_dns_over_tcp_and_answers() -> None:
    query = dns.message.make_query("a.test", "MX")
    answer = dns.message.make_response(query)
    answer.answer.append(dns.rrset.from_text("a.test.", 60, "IN", "MX", "10 mail.a.test."))
    wire = answer.to_wire()
    packet = ipv4(6, pack(">HH", 53, 4000) + tcp(0, len(wire).to_bytes(2, "big") + wire)[4:], "192.0.2.53", "10.0.0.2")
    kind, _, name, code, detail = one(logged("dns:answer", packet))
    assert (kind, name, code, detail["answer"], detail["verdict"]) == ("net.dns", "a.test", 0, True, "answer")
    assert detail["answers"] == ["MX 10 mail.a.test."]
    assert detail["peer"] == "192.0.2.53:53"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_word_of_the_packet_filter_has_a_meaning(prefix: str) -> None:
    _, _, thing, _, detail = one(logged(prefix, ipv4(17, udp(443, b"x"))))
    assert detail["prefix"] == prefix
    assert detail["verdict"]
    inward = prefix in ("flow:inbound", "dns:answer", "invalid:out")
    assert thing == ("10.0.0.2:4000" if inward else "192.0.2.7:443")


def test_what_is_sent_to_port_53_and_is_no_dns_is_a_flow() -> None:
    kind, _, thing, _, detail = one(logged("dns:query", ipv4(17, udp(53, b"SSH-2.0-x"))))
    assert (kind, thing, detail["not_dns"]) == ("net.flow", "192.0.2.7:53", b"SSH-2.0-x".hex())


def test_a_name_with_anything_in_it_is_text() -> None:
    labels = b"\x05a\xff\0\x1b[" + b"\x04test\0"
    found = read_dns(pack(">6H", 1, 0x100, 1, 0, 0, 0) + labels + pack(">HH", 1, 1))
    assert found is not None
    assert found["name"] == "a\\255\\000\\027[.test"


def test_the_name_in_a_client_hello() -> None:
    assert one(logged("flow:reject", ipv4(6, tcp(443, client_hello(b"pypi.test")))))[4]["sni"] == "pypi.test"
    assert server_name(client_hello(b"a\xff")) == "a\\xff"


@pytest.mark.parametrize("length", range(0, 70, 3))
def test_half_a_client_hello_has_no_name_and_does_no_harm(length: int) -> None:
    assert server_name(client_hello(b"pypi.test")[:length]) == ""


def test_later_fragments_have_no_ports() -> None:
    whole = ipv4(17, udp(1, b"x" * 8))
    assert read_packet(whole).dport == 1
    assert read_packet(whole[:6] + b"\x00\x10" + whole[8:])[1:5] == ("10.0.0.2", 0, "192.0.2.7", 0)


def test_ipv6_behind_extension_headers() -> None:
    rest = b"\x3c\0" + b"\0" * 6 + b"\x11\0" + b"\0" * 6 + udp(443, b"")
    packet = pack(">IHBB", 6 << 28, len(rest), 0, 64) + b"\xfd" * 16 + b"\x20" * 16 + rest
    found = read_packet(packet)
    assert (found.protocol, found.dport, found.dst) == ("udp", 443, "2020:2020:2020:2020:2020:2020:2020:2020")


@pytest.mark.parametrize(
    "datagram",
    [b"\1", b"\xff" * 16, pack("<IHHII", 12, 1024, 0, 0, 0), message(0x400, b"\xff")[:19], b"\0" * 40],
)
def test_what_is_no_netlink_is_said(datagram: bytes) -> None:
    assert [event[0] for _, event in nflog_events(datagram)][:1] in (["unknown"], [])
    assert [event[0] for event in conntrack_events(datagram)][:1] in (["unknown"], ["net.flow"], [])
