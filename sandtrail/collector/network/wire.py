"""One sandbox's link: the sandbox's network namespace, and the wire namespace at the other end of its only cable.

    sandbox namespace  10.219.0.2/30 eth0 ════ wire0 10.219.0.1/30  wire namespace (filter, logs, gateway's listener)

Nothing of this is in the host's own namespace, so a packet is attributed by the link it came through, two sandboxes may
use the same addresses, and deleting the two namespaces removes everything. The wire namespace does not forward.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandtrail.collector.network import account, namespaces, netlink, rules
from sandtrail.collector.network.account import Account
from sandtrail.collector.network.rules import EgressMode
from sandtrail.errors import EnvironmentRefusedError

__all__ = [
    *(
        "CLAIMS_PORTS",
        "DNS_PORT",
        "GATEWAY_PORT",
        "SANDBOX_ADDRESS",
        "WIRE_ADDRESS",
        "Wire",
        "finish",
        "namespace_names",
        "remove",
    ),
    "running",
]

WIRE_ADDRESS: Final = "10.219.0.1"
SANDBOX_ADDRESS: Final = "10.219.0.2"
GATEWAY_PORT: Final = 3128
DNS_PORT: Final = 53
CLAIMS_PORTS: Final = (4317, 4318)
"""Where OTLP is expected: gRPC, HTTP."""
_PREFIX: Final = 30
_LINK: Final = "wire0"
_PATIENCE_S: Final = 2.0


def namespace_names(session: str) -> tuple[str, str]:
    """The names of a session's two namespaces: the sandbox's, the wire's."""
    return f"st-{session}-sb", f"st-{session}-wire"


@dataclass
class Wire:
    """A link that stands. The caller hands the sockets on and closes its own copies.

    `names` is where names are asked for, in a transparent mode; `services` are the other listeners. `sees` and `blind`
    say in plain words what the two netlink sockets can and cannot report.
    """

    sandbox: str
    wire: str
    nflog: socket.socket
    conntrack: socket.socket | None
    listener: socket.socket
    names: socket.socket | None = None
    services: list[socket.socket] = field(default_factory=list)
    sees: list[str] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)

    @classmethod
    def create(cls, session: str, mode: EgressMode = "proxy", services: Sequence[int] = ()) -> Wire:
        """Build the link of `session`; `services` are ports of listeners on it besides the gateway's. Raises
        EnvironmentRefusedError or MissingPartError; what had been made until then is removed by `remove(session)`."""
        sandbox, wire = namespace_names(session)
        for name in (sandbox, wire):
            namespaces.create(name)
            namespaces.inside(name, _without_ipv6)
        namespaces.tool(
            *("ip", "link", "add", "eth0", "netns", sandbox, "type", "veth"), *("peer", "name", _LINK, "netns", wire)
        )
        script = rules.ruleset(_LINK, WIRE_ADDRESS, SANDBOX_ADDRESS, (GATEWAY_PORT, *services), mode)
        # Before the link is up: no frame goes uncounted.
        namespaces.inside(wire, lambda: namespaces.tool("nft", "-f", "-", stdin=script))
        for name, link, address in ((wire, _LINK, WIRE_ADDRESS), (sandbox, "eth0", SANDBOX_ADDRESS)):
            namespaces.tool("ip", "-n", name, "addr", "add", f"{address}/{_PREFIX}", "dev", link)
            namespaces.tool("ip", "-n", name, "link", "set", link, "up")
        namespaces.tool("ip", "-n", sandbox, "route", "add", "default", "via", WIRE_ADDRESS)
        return namespaces.inside(wire, lambda: cls._inside(sandbox, wire, mode, services))

    @classmethod
    def _inside(cls, sandbox: str, wire: str, mode: EgressMode, services: Sequence[int]) -> Wire:
        blind = ["payloads of packets beyond 4 KiB", "ARP: counted only"]
        nflog = netlink.open_nflog(rules.GROUP)
        conntrack: socket.socket | None = None
        try:
            _flow_accounting()
            conntrack = netlink.open_conntrack()
        except (OSError, EnvironmentRefusedError) as error:
            blind.append(f"ends and volumes of flows: {error}")
        listener = socket.create_server((WIRE_ADDRESS, GATEWAY_PORT), backlog=512)
        made = cls(sandbox, wire, nflog, conntrack, listener, sees=list(rules.PREFIXES), blind=blind)
        made.services = [socket.create_server((WIRE_ADDRESS, port), backlog=128) for port in services]
        if mode != "proxy":
            made.names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.names.bind((WIRE_ADDRESS, DNS_PORT))
        return made

    def close(self) -> None:
        """Close this process's copies of the sockets; the link itself stays until `remove`."""
        for sock in (self.nflog, self.conntrack, self.listener, self.names, *self.services):
            if sock is not None:
                sock.close()


def finish(session: str) -> Account:
    """Take the link down, end the flows that are still open, so that their counters are reported, and return what all
    of it came to. For the time when the sandbox has ended and its link still stands."""
    _, wire = namespace_names(session)
    ended = account.read(wire, _LINK, final=True)
    namespaces.inside(wire, _end_flows)
    return ended


def _end_flows() -> None:
    """End all flows, and wait until their ends are told: those that find the reader's buffer full come later."""
    netlink.flush_flows()
    left = Path("/proc/thread-self/net/stat/nf_conntrack")
    deadline = time.monotonic() + _PATIENCE_S
    while _flows(left) and time.monotonic() < deadline:
        time.sleep(0.01)


def _flows(statistics: Path) -> int:
    """How many flows there are, by the first number of the connection tracker's statistics."""
    try:
        return int(statistics.read_text().splitlines()[1].split()[0], 16)
    except (OSError, ValueError, IndexError):
        return 0


def running(session: str) -> Account:
    """What has left the link so far, and what of it is accounted for."""
    return account.read(namespace_names(session)[1], _LINK, final=False)


def remove(session: str) -> None:
    """Remove the link of `session` and everything on it; whatever is gone already is fine."""
    for name in namespace_names(session):
        namespaces.delete(name)


def _without_ipv6() -> None:
    for scope in ("all", "default"):
        setting = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
        if setting.exists():
            setting.write_text("1")


def _flow_accounting() -> None:
    folder = Path("/proc/sys/net/netfilter")
    (folder / "nf_conntrack_acct").write_text("1")
    (folder / "nf_conntrack_timestamp").write_text("1")
    # A packet in the middle of nowhere begins no flow: it is logged as invalid.
    (folder / "nf_conntrack_tcp_loose").write_text("0")
    # A client that has sent all may wait for long until a model says its first word.
    (folder / "nf_conntrack_tcp_timeout_close_wait").write_text("3600")
