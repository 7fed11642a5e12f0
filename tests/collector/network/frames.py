"""Frames made by hand, sent from the sandbox's end of a link around everything that its kernel would say to them."""

from __future__ import annotations

import socket
from struct import pack

from sandtrail.collector.network import namespaces, wire


def frame(packet: bytes, kind: int = 0x0800, to: bytes = b"\xff" * 6) -> bytes:
    """An Ethernet frame; to everybody, if nothing else is said."""
    return to + b"\2" * 6 + pack(">H", kind) + packet


def checksummed(dst: str, rest: bytes, src: str = wire.SANDBOX_ADDRESS, protocol: int = 253) -> bytes:
    """An IPv4 packet with a right header; TCP's own checksum is left out, and such a packet is invalid."""
    ends = socket.inet_aton(src) + socket.inet_aton(dst)
    head = pack(">BBHHHBBH", 0x45, 0, 20 + len(rest), 7, 0, 64, protocol, 0) + ends
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[12:] + rest


BROKEN = frame(b"\x45\0\0\x3c".ljust(60, b"\0"))
"""What the kernel throws away before any filter: an IPv4 header whose checksum is wrong."""


def raw(link: wire.Wire, data: bytes) -> None:
    """Send a frame from the sandbox's end."""

    def act() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("eth0", 0))
            sock.send(data)

    namespaces.inside(link.sandbox, act)
