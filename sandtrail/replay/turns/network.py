"""Connections: what the sentry, the packet filter and the gateway saw of the same one, put together.

The sentry knows the process and the address it asked for; the packet filter knows the ports at both ends; the gateway
knows the port of its client. So a connect joins a flow by address and time, and a flow joins an exchange by port.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from dataclasses import dataclass, field
from errno import EALREADY, EINPROGRESS, EINTR
from typing import NamedTuple

from sandtrail.replay.turns.process import Process

__all__ = ["Connection", "Connections", "Endpoint", "endpoint"]

REACH_BEFORE_NS = 150_000_000_000
"""A connect that was never answered returns minutes after its first packet."""
REACH_AFTER_NS = 2_000_000_000


class Endpoint(NamedTuple):
    """Address and port of a peer."""

    ip: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether nothing sent there leaves the sandbox."""
        return local(self.ip)

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(slots=True, eq=False)
class Connection:
    """One connection or attempt at one, or the packets of one UDP conversation."""

    number: int
    peer: Endpoint
    proto: str = ""
    """`tcp`, `udp`, another protocol's name, or empty while it is not known."""
    source_port: int = 0
    time_ns: int = 0
    process: Process | None = None
    connect_ref: str = ""
    result: int | None = None
    errno: int | None = None
    """What the connect returned to the process."""
    flow_ref: str = ""
    verdict: str = ""
    """The packet filter's word: `allow`, `redirect`, `pass`, `reject`, `inbound`, or empty where it saw nothing; the
    gateway's, `denied`, for a name that it did not look up."""
    prefix: str = ""
    """Why the packet filter logged it, in its own word."""
    sni: str = ""
    """The name in a TLS handshake that the gateway could not take part in: its client trusts other certificates."""
    tunnel: str = ""
    """Where bytes that are no HTTP went through the gateway, as its client named it."""
    cut_off: str = ""
    """Why the gateway refused it or cut it off, or could not make it."""
    up: int = 0
    down: int = 0
    """Bytes that passed the gateway, once it is over."""
    names: list[str] = field(default_factory=list)
    """Names looked up over it."""
    exchanges: int = 0
    gateway: bool = False
    ended_ns: int | None = None

    @property
    def failed(self) -> bool:
        """Whether the connect is known to have failed; one that goes on by itself is not."""
        return self.errno not in (None, 0, EINPROGRESS, EALREADY, EINTR)


class Connections:
    """Takes connects, flows and clients of the gateway in about the order of time and joins them."""

    def __init__(self) -> None:
        self.all: list[Connection] = []
        self.gateways: set[Endpoint] = set()
        self._flows: dict[tuple[str, int, Endpoint], Connection] = {}
        self._unconnected: dict[Endpoint, list[Connection]] = defaultdict(list)
        self._unflowed: dict[Endpoint, list[Connection]] = defaultdict(list)
        self._clients: dict[int, Connection] = {}

    def _new(self, peer: Endpoint, time_ns: int) -> Connection:
        made = Connection(len(self.all), peer, time_ns=time_ns)
        self.all.append(made)
        return made

    def connect(self, peer: Endpoint, time_ns: int, process: Process, proto: str) -> Connection:
        """The sentry saw a process connect; the connection may have been met as a flow already."""
        waiting = self._unconnected[peer]
        fits = [
            c for c in waiting if -REACH_BEFORE_NS <= c.time_ns - time_ns <= REACH_AFTER_NS and _same(c.proto, proto)
        ]
        if fits:
            # The sentry reports a connect once it returned, so its flow is the closest one before.
            best = min(fits, key=lambda c: abs(c.time_ns - time_ns))
            waiting.remove(best)
        else:
            best = self._new(peer, time_ns)
            if not local(peer.ip):
                _push(self._unflowed[peer], best)
        best.process = process
        best.proto = best.proto or proto
        return best

    def flow(self, peer: Endpoint, source_port: int, time_ns: int, proto: str) -> Connection:
        """The filter or the connection tracker saw a packet of the sandbox; later ones of a flow join the first."""
        key = (proto, source_port, peer)
        held = self._flows.get(key)
        if held is not None and held.ended_ns is None:
            return held
        waiting = self._unflowed[peer]
        fits = [
            c
            for c in waiting
            if -REACH_AFTER_NS <= c.time_ns - time_ns <= REACH_BEFORE_NS and _same(c.proto, proto) and not c.source_port
        ]
        if fits:
            best = min(fits, key=lambda c: abs(c.time_ns - time_ns))
            waiting.remove(best)
        else:
            best = self._new(peer, time_ns)
            _push(self._unconnected[peer], best)
        best.proto, best.source_port = proto, source_port
        self._flows[key] = best
        if proto == "tcp":
            self._clients[source_port] = best
        return best

    def known(self, peer: Endpoint, source_port: int, proto: str) -> Connection | None:
        """The latest connection between these ports, whether it is over or not."""
        return self._flows.get((proto, source_port, peer))

    def flow_end(self, peer: Endpoint, source_port: int, time_ns: int, proto: str) -> Connection | None:
        """The connection tracker forgot a flow; the port may be used again."""
        held = self._flows.get((proto, source_port, peer))
        if held is not None:
            held.ended_ns = time_ns
        return held

    def client(self, port: int, time_ns: int) -> Connection | None:
        """The connection that reached the gateway from this port of the sandbox; None where none is known.

        Where nothing counted packets, the latest connect to a gateway that no other client took is the one.
        """
        found = self._clients.get(port)
        if found is not None:
            found.gateway = True
            self.gateways.add(found.peer)
            return found
        best: Connection | None = None
        for peer in self.gateways or set(self._unflowed):
            for held in self._unflowed.get(peer, ()):
                near = -REACH_AFTER_NS <= time_ns - held.time_ns <= 10 * REACH_AFTER_NS and held.proto != "udp"
                if near and (best is None or abs(held.time_ns - time_ns) < abs(best.time_ns - time_ns)):
                    best = held
        if best is not None:
            self._unflowed[best.peer].remove(best)
            best.source_port, best.gateway = port, True
            self._clients[port] = best
        return best


def _push(waiting: list[Connection], connection: Connection) -> None:
    waiting.append(connection)
    if len(waiting) > 2000:
        del waiting[:1000]


def _same(one: str, other: str) -> bool:
    return not one or not other or one == other


def local(ip: str) -> bool:
    """Whether an address never leaves the sandbox."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_loopback or address.is_unspecified


def endpoint(text: str) -> Endpoint | None:
    """Read `ip:port` or `[ip6]:port`; None for anything else, such as a Unix socket's path."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not port.isascii() or not port.isdigit() or len(port) > 5:
        return None
    try:
        return Endpoint(str(ipaddress.ip_address(host)), int(port))
    except ValueError:
        return None
