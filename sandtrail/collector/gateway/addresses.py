"""Addresses that a sandbox must not reach through the gateway: whatever only the host itself should reach."""

from __future__ import annotations

import ipaddress
import re
import time
from pathlib import Path

__all__ = ["why_not"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Clouds serve machine identities there; the link-local ones are refused anyway.
_METADATA = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("fd00:ec2::/32", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42"),
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48")
_LOCAL = re.compile(r"\|-- (\S+)|/(\d+) host LOCAL")
_FRESH_S = 2.0

# RTF_LOCAL and RTF_ANYCAST, linux/ipv6_route.h: whole networks, too, may be this host's.
_LOCAL_OR_ANYCAST = 0x80100000

_ours: tuple[float, frozenset[Network]] = (0.0, frozenset())


def why_not(text: str) -> str | None:
    """Why this address (IPv4 or IPv6, as getaddrinfo gives it) is refused; None when it is not."""
    try:
        address = _unwrapped(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return "it is no address"
    if address.is_loopback:
        return "it is a loopback address of the host"
    if address.is_unspecified or (address.version == 4 and int(address) >> 24 == 0):
        return "it stands for the host itself"
    if address.is_link_local:
        return "it is link-local"
    if address.is_multicast or address == ipaddress.IPv4Address("255.255.255.255"):
        return "it is no single machine's"
    if any(address in network for network in _METADATA):
        return "it is a cloud's metadata service"
    if _is_ours(address):
        return "it is an address of the host"
    return None


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside of an IPv6 one that stands for it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if any(address in network for network in _NAT64) or int(address) >> 32 == 0 and int(address) > 1:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_ours(address: Address) -> bool:
    global _ours
    if time.monotonic() - _ours[0] > _FRESH_S:
        _ours = (time.monotonic(), _read_ours())
    return any(address in network for network in _ours[1])


def _read_ours() -> frozenset[Network]:
    """What the kernel delivers to this host: the local entries of its routing tables."""
    networks, node = set[Network](), ""
    for match in _LOCAL.finditer(Path("/proc/net/fib_trie").read_text()):
        if match[1]:
            node = match[1]
        else:
            networks.add(ipaddress.IPv4Network(f"{node}/{match[2]}", strict=False))
    six = Path("/proc/net/ipv6_route")
    for line in six.read_text().splitlines() if six.exists() else ():
        prefix, length, *_, flags, _ = line.split()
        if int(flags, 16) & _LOCAL_OR_ANYCAST:
            networks.add(ipaddress.IPv6Network((bytes.fromhex(prefix), int(length, 16))))
    return frozenset(networks)
