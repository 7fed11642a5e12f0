"""The network's part of the fold: connections under the processes that made them."""

from __future__ import annotations

from collections import deque
from errno import ECONNREFUSED, ENOENT
from typing import TYPE_CHECKING, Any

from sandtrail.replay.events import Event
from sandtrail.replay.turns.buckets import Bucket, Edge, Group
from sandtrail.replay.turns.facts import details, whole
from sandtrail.replay.turns.modelturns import Turn
from sandtrail.replay.turns.network import Connection, Connections, Endpoint, endpoint
from sandtrail.replay.turns.process import Process

if TYPE_CHECKING:
    from sandtrail.replay.turns.fold import Fold

__all__ = ["Spot", "Traffic", "local_or_probe"]

STREAM, DATAGRAM, RAW = 1, 2, 3
_KINDS = {STREAM: "tcp", DATAGRAM: "udp"}
_INWARD = frozenset({"answer", "inbound"})
_STRAY = frozenset({"ether", "invalid", "fragment", "spoof", "error"})
"""Packets that begin no flow."""
_DROPPED = _STRAY - {"error"}
RECENT_NS = 60_000_000_000

Spot = tuple[Turn | None, Bucket, Group]
"""Where something stands: the turn (None: unexplained), the bucket in it, the group in that."""


class Traffic:
    """Takes the events of sockets and packets."""

    def __init__(self, fold: Fold) -> None:
        self.fold = fold
        self.connections = Connections()
        self.spots: dict[int, Spot] = {}
        self._sockets: deque[tuple[int, int, Process]] = deque(maxlen=500)

    def take(self, fact: Event) -> None:
        """Take one event."""
        if fact.kind in ("net.flow", "net.flow_end", "net.dns"):
            self._packet(fact, details(fact))
        elif fact.kind == "net.connect":
            self._connect(fact)
        elif fact.pid:
            self._socket(fact)
        else:
            self.loose(None, fact, ("packet", fact.ref, fact.n))

    def refs_of(self, connection: Connection) -> list[str]:
        """The evidence of a connection."""
        spot = self.spots.get(connection.number)
        first = [connection.connect_ref] if connection.connect_ref else []
        return first + (spot[2].members.refs() if spot is not None else [])

    def turn_of(self, connection: Connection) -> int | None:
        """The turn that a connection stands under; None where nothing explains it."""
        spot = self.spots.get(connection.number)
        return spot[0].index if spot is not None and spot[0] is not None else None

    # what the sentry saw

    def _socket(self, fact: Event) -> None:
        process = self.fold.who(fact)
        if fact.kind == "net.socket" and fact.result is not None and fact.result >= 0:
            detail = details(fact)
            kind = whole(detail.get("type")) & 0xF
            process.sockets.pop(fact.result, None)
            if detail.get("domain") in (2, 10) and len(process.sockets) < 4096:
                process.sockets[fact.result] = kind
                self._sockets.append((fact.time_ns, kind, process))
        here = endpoint(fact.object) if fact.kind in ("net.listen", "net.bind") and not fact.errno else None
        if here is not None and here.port:
            self.fold.place(process, process.program, (fact.kind, fact.object), fact)
        else:
            self.fold.count(process, fact)

    def _connect(self, fact: Event) -> None:
        process = self.fold.who(fact)
        peer = endpoint(fact.object)
        if peer is None and fact.errno in (ENOENT, ECONNREFUSED):
            self.fold.count(process, fact)  # it asks whether a service is there, such as a name cache
            return
        if peer is None:
            self.fold.place(process, process.program, (fact.kind, fact.object), fact).flags.add("local")
            return
        kind = process.sockets.get(whole(details(fact).get("fd"), -1), 0)
        connection = self.connections.connect(peer, fact.time_ns, process, _KINDS.get(kind, ""))
        connection.connect_ref, connection.result, connection.errno = fact.ref, fact.result, fact.errno
        self._settle(connection, process, fact)
        self._signal(connection)

    def _settle(self, connection: Connection, process: Process, fact: Event, edge: Edge | None = None) -> None:
        """Put a connection, and this event of it, under the turn of its process."""
        fold = self.fold
        index, why = fold.lineage.place(process, fact.time_ns)
        edge = edge if edge is not None and why is not None else why
        turn, bucket = fold.bucket(index, edge, process, process.program)
        key = ("connection", connection.number)
        found = self.spots.get(connection.number)
        if found is None:
            group = fold.add(turn, bucket, key, fact, edge)
        else:
            group = self.move(found, (turn, bucket), key)
            fold.extend(turn, bucket, group, fact)
        group.edge, group.connection = edge, connection
        self.spots[connection.number] = (turn, bucket, group)

    def move(self, spot: Spot, to: tuple[Turn | None, Bucket], key: object) -> Group:
        """Put a group under another turn, its events with it."""
        turn, old, group = spot
        old.groups.pop(key, None)
        self.fold.tally(turn, -len(group.members))
        turn, bucket = to
        bucket.groups[key] = group
        self.fold.tally(turn, len(group.members))
        return group

    # what the packet filter saw

    def _packet(self, fact: Event, detail: dict[str, Any]) -> None:
        verdict, proto = str(detail.get("verdict") or ""), str(detail.get("proto") or "")
        near, far = ("dport", "src") if verdict in _INWARD else ("sport", "dst")
        there = f"{detail.get(far)}:{whole(detail.get('sport' if far == 'src' else 'dport'))}"
        peer = endpoint(str(detail.get("peer") or "")) or endpoint(fact.object) or endpoint(there)
        port = whole(detail.get(near))
        if peer is None or verdict in _STRAY:
            # Late packets of a connection that is over, or none of any.
            known = self.connections.known(peer, port, proto) if peer is not None else None
            if known is None or not self.join(known, fact):
                group = self.loose(None, fact, ("packet", proto, fact.object))
                group.flags |= {"dropped"} if verdict in _DROPPED else set()
            return
        if fact.kind == "net.flow_end":
            found = self.connections.flow_end(peer, port, fact.time_ns, proto)
            if found is not None and self.join(found, fact):
                return
        connection = self.connections.flow(peer, port, fact.time_ns, proto)
        connection.flow_ref = connection.flow_ref or fact.ref
        self._judge(connection, verdict, detail)
        names = connection.names
        if fact.kind == "net.dns" and fact.object and fact.object not in names and len(names) < 50:
            names.append(fact.object)
        if not self.join(connection, fact):
            self._unconnected(connection, fact)
        self._signal(connection)

    def _judge(self, connection: Connection, verdict: str, detail: dict[str, Any]) -> None:
        """Keep the packet filter's word; that the connection tracker knows a flow says only that it was not refused."""
        if detail.get("via") == "conntrack":
            connection.verdict = connection.verdict or ("inbound" if verdict == "inbound" else "passed")
        elif verdict != "answer":
            connection.verdict = verdict or connection.verdict
            connection.prefix = str(detail.get("prefix") or connection.prefix)
            if verdict == "allow":
                self.connections.gateways.add(connection.peer)

    def _unconnected(self, connection: Connection, fact: Event) -> None:
        """Packets without a connect: of the process that last opened a socket of their kind, or of nobody."""
        if connection.proto not in ("tcp", "") and connection.verdict != "inbound":
            wanted = (DATAGRAM,) if connection.proto == "udp" else (RAW, DATAGRAM)
            for time_ns, kind, process in reversed(self._sockets):
                if fact.time_ns - time_ns > RECENT_NS:
                    break
                if kind in wanted and process.ended_ns is None:
                    connection.process = process
                    self._settle(connection, process, fact, Edge("by time: its process had such a socket open", 0.5))
                    return
        self.loose(connection, fact, ("connection", connection.number))

    def join(self, connection: Connection, fact: Event) -> bool:
        """Add an event to a connection that stands somewhere; False where it does not yet."""
        spot = self.spots.get(connection.number)
        if spot is not None:
            self.fold.extend(*spot, fact)
        return spot is not None

    def loose(self, connection: Connection | None, fact: Event, key: object) -> Group:
        """Keep an event that nothing explains, until something does."""
        turn, bucket = self.fold.bucket(None, None, None, None)
        group = self.fold.add(turn, bucket, key, fact, None)
        if connection is not None:
            group.connection = connection
            self.spots[connection.number] = (turn, bucket, group)
        return group

    def _signal(self, connection: Connection) -> None:
        """An undecided program that opens a connection matters; packets prove it where a connect alone does not."""
        if connection.process is None or local_or_probe(connection):
            return
        what = f"{connection.names[0]} (DNS)" if connection.names else str(connection.peer)
        kind = "gateway" if connection.peer in self.connections.gateways else "connection"
        self.fold.signal(connection.process, kind, what, connection.connect_ref or connection.flow_ref)


def local_or_probe(connection: Connection) -> bool:
    """Whether nothing left the sandbox: loopback, or a datagram socket that was only asked which way it would send."""
    peer: Endpoint = connection.peer
    if peer.is_local or (not peer.port and connection.proto in ("", "udp", "tcp")):
        return True
    return not connection.flow_ref and (connection.proto == "udp" or (not connection.proto and connection.result == 0))
