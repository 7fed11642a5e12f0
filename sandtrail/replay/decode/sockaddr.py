"""Socket addresses as the sandbox's kernel keeps them: struct sockaddr_in, sockaddr_in6, sockaddr_un."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from sandtrail.replay.decode.text import text

__all__ = ["FAMILIES", "TYPES", "Address", "endpoint", "read_sockaddr"]

AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
FAMILIES: Final = {0: "unspec", 1: "unix", 2: "inet", 10: "inet6", 16: "netlink", 17: "packet", 38: "alg", 40: "vsock"}
TYPES: Final = {1: "stream", 2: "dgram", 3: "raw", 5: "seqpacket"}


class Address(NamedTuple):
    """`name` is `ip:port`, `[ip6]:port`, `unix:/path`, `unix:@abstract`, or `family:hex` of what is none of these."""

    name: str
    family: str
    ip: str = ""
    port: int = 0


def endpoint(ip: str, port: int) -> str:
    """An address and a port as one word."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def read_sockaddr(data: bytes) -> Address:
    """Read a raw sockaddr, however short."""
    if len(data) < 2:
        return Address("", "")
    number = int.from_bytes(data[:2], "little")
    family = FAMILIES.get(number, str(number))
    if number == AF_INET and len(data) >= 8:
        ip, port = str(IPv4Address(data[4:8])), int.from_bytes(data[2:4], "big")
        return Address(endpoint(ip, port), family, ip, port)
    if number == AF_INET6 and len(data) >= 24:
        ip, port = str(IPv6Address(data[8:24])), int.from_bytes(data[2:4], "big")
        return Address(endpoint(ip, port), family, ip, port)
    if number == AF_UNIX:
        path = data[2:110]
        if path[:1] == b"\0" and len(path) > 1:
            return Address(f"unix:@{text(path[1:])}", family)
        return Address(f"unix:{text(path.partition(b'\0')[0])}", family)
    return Address(f"{family}:{data[2:34].hex()}", family)
