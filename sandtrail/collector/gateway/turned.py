"""Connections that their clients meant for somewhere else, and that the sandbox's link turned to the gateway.

A client that knows nothing of the gateway says where it goes twice: by the address that it connects to, and by the
names in its TLS handshake and its requests. Rules are about names, so a name that does not stand for the address would
be a way around them: such a request is refused, and recorded as a mismatch. What passes goes to the original address
and nowhere else, unless the operator maps the name to an upstream.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from struct import unpack_from
from typing import TYPE_CHECKING, Final, NamedTuple

from sandtrail.collector.gateway.redact import printable
from sandtrail.collector.gateway.rules import canonical

if TYPE_CHECKING:
    from sandtrail.collector.gateway.session import Session

__all__ = ["DNS_PORT", "SERVER_FIRST", "Told", "Turned", "meant_for", "mismatch"]

_SO_ORIGINAL_DST: Final = 80
_KEPT: Final = 4096
DNS_PORT: Final = 53
SERVER_FIRST: Final = frozenset({21, 22, 23, 25, 110, 143, 587, 3306, 5900})
"""Ports where the server speaks first, so that there is no waiting for the client's first bytes."""


class Turned(NamedTuple):
    """Where a connection was meant to go; `here` is the address on the link at which it was accepted instead."""

    ip: str
    port: int
    here: str


def meant_for(connection: socket.socket) -> Turned | None:
    """The original destination of an accepted connection; None for one that was meant for its listener.

    Specification: SO_ORIGINAL_DST, linux/netfilter_ipv4.h.
    """
    here, at = connection.getsockname()[:2]
    try:
        told = connection.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
    except OSError:
        return None
    port, ip = unpack_from(">H", told, 2)[0], socket.inet_ntoa(told[4:8])
    return None if (ip, port) == (here, at) else Turned(ip, port, here)


class Told:
    """The names that a sandbox has asked for, and the addresses that it was told: the answers change from one time to
    the next, so a connection is judged by what its client was told as well. The oldest are forgotten first."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], None] = {}

    def add(self, name: str, ip: str) -> None:
        """The sandbox was told that `name` is at `ip`."""
        self._names.pop((name, ip), None)
        self._names[name, ip] = None
        if len(self._names) > _KEPT:
            del self._names[next(iter(self._names))]

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return pair in self._names


async def mismatch(session: Session, turned: Turned, names: Iterable[str]) -> str | None:
    """Why one of the names under which a connection goes does not stand for its address; None where all of them do."""
    mapped = False
    for name in map(canonical, names):
        if session.policy.upstream(name):
            mapped = True
        elif not await _stands_for(session, name, turned.ip):
            return f"{printable(name)[:255]} is not at {turned.ip}, where the connection was meant to go"
    if turned.ip == turned.here and not mapped:
        return f"{turned.ip} is the gateway itself"
    return None


async def _stands_for(session: Session, name: str, ip: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")) == ipaddress.ip_address(ip)
    except ValueError:
        pass
    if (name, ip) in session.told:
        return True
    try:
        return any(info[4][0] == ip for info in await session.resolver.resolve(name))
    except OSError:
        return False
