"""Packets as far as a flow needs them: addresses, ports, protocol; a DNS message; the name in a TLS ClientHello.

Specifications: RFC 791, 8200, 9293, 768, 792, 8446 section 4.1.2, 6066 section 3; DNS by dnspython.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype

from sandtrail.replay.decode.text import clean, text

__all__ = ["PROTOCOLS", "Packet", "read_dns", "read_packet", "server_name"]

PROTOCOLS: Final = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmp6", 132: "sctp"}
ETHER_IPV4, ETHER_IPV6 = 0x0800, 0x86DD
_EXTENSIONS: Final = frozenset({0, 43, 60})
_FRAGMENT: Final = 44
_MAX_ANSWERS: Final = 40


class Packet(NamedTuple):
    """What of a packet a flow needs; ports are 0 where the protocol has none or a later fragment leaves them out."""

    protocol: str = ""
    src: str = ""
    sport: int = 0
    dst: str = ""
    dport: int = 0
    size: int = 0
    """Length of the packet as its own header says."""
    payload: bytes = b""
    """What the transport carries, as far as it was captured."""
    extra: dict[str, int] | None = None


def read_packet(data: bytes, ether_type: int = 0) -> Packet:
    """Read an IP packet. Anything else, or what is too short, comes back with as much as could be read."""
    version = data[0] >> 4 if data else 0
    if ether_type not in (0, ETHER_IPV4, ETHER_IPV6):
        return Packet(f"ether:{ether_type:04x}", size=len(data), payload=data)
    if version == 4 and len(data) >= 20:
        header = (data[0] & 0xF) * 4
        src, dst = str(IPv4Address(data[12:16])), str(IPv4Address(data[16:20]))
        later = (data[6] << 8 | data[7]) & 0x1FFF
        return _transport(data[9], src, dst, int.from_bytes(data[2:4], "big"), b"" if later else data[header:])
    if version == 6 and len(data) >= 40:
        src, dst = str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40]))
        number, rest = _skip_extensions(data[6], data[40:])
        return _transport(number, src, dst, 40 + int.from_bytes(data[4:6], "big"), rest)
    return Packet(f"ether:{ether_type:04x}" if ether_type else "", size=len(data), payload=data)


def _skip_extensions(number: int, rest: bytes) -> tuple[int, bytes]:
    for _ in range(16):
        if number in _EXTENSIONS and len(rest) >= 8:
            number, rest = rest[0], rest[(rest[1] + 1) * 8 :]
        elif number == _FRAGMENT and len(rest) >= 8:
            offset = int.from_bytes(rest[2:4], "big") >> 3
            number, rest = rest[0], b"" if offset else rest[8:]
        else:
            break
    return number, rest


def _transport(number: int, src: str, dst: str, size: int, rest: bytes) -> Packet:
    name = PROTOCOLS.get(number, f"ip:{number}")
    if name in ("tcp", "udp", "sctp") and len(rest) >= 8:
        sport, dport = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
        if name == "tcp" and len(rest) >= 14:
            body = rest[max((rest[12] >> 4) * 4, 20) :]
            return Packet(name, src, sport, dst, dport, size, body, {"tcp_flags": rest[13]})
        return Packet(name, src, sport, dst, dport, size, rest[8:] if name == "udp" else b"")
    if name in ("icmp", "icmp6") and len(rest) >= 2:
        return Packet(name, src, 0, dst, 0, size, rest[8:], {"icmp_type": rest[0], "icmp_code": rest[1]})
    return Packet(name, src, 0, dst, 0, size, rest)


def read_dns(data: bytes, *, stream: bool = False) -> dict[str, Any] | None:
    """A DNS message: `name` (first question), `type`, `id`, `answer`, `rcode`, `answers`, `questions`; None for what is
    none. `stream`: the message follows its length, as over TCP."""
    if stream:
        data = data[2 : 2 + int.from_bytes(data[:2], "big")] if len(data) > 2 else b""
    if len(data) < 12:
        return None
    try:
        message = dns.message.from_wire(data, ignore_trailing=True, continue_on_error=True)
        questions = [(clean(q.name.to_text(), 1100), dns.rdatatype.to_text(q.rdtype)) for q in message.question]
        answers = [
            clean(f"{dns.rdatatype.to_text(rrset.rdtype)} {item.to_text()}", 600)
            for rrset in message.answer
            for item in rrset
        ]
    except (dns.exception.DNSException, ValueError, IndexError, OverflowError, RecursionError):
        return None
    if not questions:
        return None
    found: dict[str, Any] = {
        "name": questions[0][0].rstrip(".") or ".",
        "type": questions[0][1],
        "id": message.id,
        "answer": bool(message.flags & 0x8000),
        "rcode": int(message.rcode()),
        "answers": answers[:_MAX_ANSWERS],
    }
    if len(questions) > 1:
        found["questions"] = len(questions)
    if len(answers) > _MAX_ANSWERS:
        found["cut"] = {"answers": len(answers)}
    return found


def server_name(data: bytes) -> str:
    """The name that a TLS ClientHello asks for; "" for what is none or asks for none."""
    if len(data) < 44 or data[0] != 22 or data[1] != 3 or data[5] != 1:
        return ""
    at = 43
    at += 1 + data[at]
    at += 2 + int.from_bytes(data[at : at + 2], "big")
    at += 1 + data[at] if at < len(data) else 0
    end = min(at + 2 + int.from_bytes(data[at : at + 2], "big"), len(data))
    at += 2
    while at + 4 <= end:
        kind, length = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == 0 and length >= 5:
            size = int.from_bytes(data[at + 7 : at + 9], "big")
            name = data[at + 9 : at + 9 + size]
            return text(name, 255) if len(name) == size else ""
        at += 4 + length
    return ""
