"""Addresses that a sandbox must not reach through the gateway: whatever only the host itself should reach."""

from __future__ import annotations

import ipaddress
import re
import time
from pathlib import Path

__all__ = ["why_not"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Clouds serve machine identities there; the link-local ones are refused anyway.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192")))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL = re.compile(r"\|-- (\S+)|/(\d+) host LOCAL")
_FRESH_S = 2.0

_ours: tuple[float, frozenset[ipaddress.IPv4Network], frozenset[Address]] = (0.0, frozenset(), frozenset())


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
    if address in _METADATA:
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
        if address in _NAT64 or int(address) >> 32 == 0 and int(address) > 1:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_ours(address: Address) -> bool:
    global _ours
    if time.monotonic() - _ours[0] > _FRESH_S:
        _ours = (time.monotonic(), *_read_ours())
    _, networks, addresses = _ours
    return address in addresses or any(address in network for network in networks)


def _read_ours() -> tuple[frozenset[ipaddress.IPv4Network], frozenset[Address]]:
    """What the kernel delivers to this host: the local entries of its routing tables."""
    networks, node = set(), ""
    for match in _LOCAL.finditer(Path("/proc/net/fib_trie").read_text()):
        if match[1]:
            node = match[1]
        else:
            networks.add(ipaddress.IPv4Network(f"{node}/{match[2]}", strict=False))
    addresses: set[Address] = set()
    six = Path("/proc/net/if_inet6")
    if six.exists():
        addresses = {ipaddress.IPv6Address(bytes.fromhex(line[:32])) for line in six.read_text().splitlines()}
    return frozenset(networks), frozenset(addresses)
