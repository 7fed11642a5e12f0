"""The network's part of the fold: connections under the processes that made them, model calls as turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandtrail.replay.events import Event
from sandtrail.replay.models import Exchange, decode_exchange
from sandtrail.replay.turns.buckets import Bucket, Edge, Group
from sandtrail.replay.turns.conversation import Threads
from sandtrail.replay.turns.exchanges import ExchangeReader, Frames
from sandtrail.replay.turns.facts import details
from sandtrail.replay.turns.modelturns import Turn
from sandtrail.replay.turns.network import Connection, Connections, endpoint
from sandtrail.replay.turns.process import Process

if TYPE_CHECKING:
    from sandtrail.replay.turns.fold import Fold

__all__ = ["Traffic"]

STREAM, DATAGRAM = 1, 2
_EXPLAINED_BY_CALL = Edge("it carried this turn's model call", 1.0)

Spot = tuple[Turn | None, Bucket, Group]


@dataclass(slots=True)
class _Held:
    """An exchange and where it stands."""

    spot: Spot
    exchange: Exchange
    turn: Turn | None

    def update(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.spot[2].result = exchange.status
        if self.turn is not None:
            self.turn.exchange, self.turn.dirty = exchange, True


class Traffic:
    """Takes the events of sockets, packets and HTTP exchanges."""

    def __init__(self, fold: Fold, frames: Frames) -> None:
        self.fold = fold
        self.connections = Connections()
        self.threads = Threads()
        self._reader = ExchangeReader(frames)
        self._spots: dict[int, Spot] = {}
        self._exchanges: dict[tuple[str, str], _Held] = {}
        self._last: dict[int, Turn] = {}

    def take(self, fact: Event, phase: str = "") -> None:
        """Take one event; `phase` tells the two steps of an exchange apart."""
        if fact.kind.startswith("http."):
            self._gateway(fact, phase)
        elif fact.kind in ("net.flow", "net.flow_end", "net.dns"):
            self._packet(fact)
        elif fact.kind == "net.connect":
            self._connect(fact)
        elif fact.pid:
            self._socket(fact)

    def refs_of(self, connection: Connection) -> list[str]:
        """The evidence of a connection."""
        spot = self._spots.get(connection.number)
        first = [connection.connect_ref] if connection.connect_ref else []
        return first + (spot[2].members.refs() if spot is not None else [])

    def turn_of(self, connection: Connection) -> int | None:
        """The turn that a connection stands under; None where nothing explains it."""
        spot = self._spots.get(connection.number)
        return spot[0].index if spot is not None and spot[0] is not None else None

    # what the sentry saw

    def _socket(self, fact: Event) -> None:
        process = self.fold.who(fact)
        if fact.kind == "net.socket" and fact.result is not None and fact.result >= 0:
            detail = details(fact)
            kind = detail.get("type")
            if isinstance(kind, int) and detail.get("domain") in (2, 10) and len(process.sockets) < 4096:
                process.sockets[fact.result] = kind & 0xF
            else:
                process.sockets.pop(fact.result, None)
        if fact.kind in ("net.listen", "net.bind") and endpoint(fact.object):
            self.fold.place(process, process.program, (fact.kind, fact.object), fact)
        else:
            self.fold.count(process, fact)

    def _connect(self, fact: Event) -> None:
        fold = self.fold
        process = fold.who(fact)
        peer = endpoint(fact.object)
        if peer is None:
            fold.place(process, process.program, (fact.kind, fact.object), fact).flags.add("local")
            return
        fd = details(fact).get("fd")
        kind = process.sockets.get(fd) if isinstance(fd, int) else None
        proto = {STREAM: "tcp", DATAGRAM: "udp"}.get(kind or 0, "")
        connection = self.connections.connect(peer, fact.time_ns, process, proto)
        connection.connect_ref, connection.result, connection.errno = fact.ref, fact.result, fact.errno
        loose = self._spots.pop(connection.number, None)
        index, edge = fold.lineage.place(process, fact.time_ns)
        turn, bucket = fold.bucket(index, edge, process, process.program)
        if loose is None:
            group = fold.add(turn, bucket, ("connection", connection.number), fact, edge)
        else:
            group = self._move(loose, (turn, bucket), ("connection", connection.number))
            group.edge, group.result, group.errno = edge, fact.result, fact.errno
            group.members.add(fact)
            fold.mark_late(turn, bucket, group, fact.time_ns)
        group.connection = connection
        self._spots[connection.number] = (turn, bucket, group)
        self._signal(connection)

    def _move(self, spot: Spot, to: tuple[Turn | None, Bucket], key: object) -> Group:
        """Put a connection's group under another turn, its events with it."""
        turn, old, group = spot
        old.groups.pop(key, None)
        self.fold.tally(turn, -len(group.members))
        turn, bucket = to
        bucket.groups[key] = group
        self.fold.tally(turn, len(group.members))
        return group

    # what the packet filter saw

    def _packet(self, fact: Event) -> None:
        detail = details(fact)
        peer, port = (
            endpoint(fact.object) or endpoint(f"{detail.get('dst')}:{detail.get('dport')}"),
            _int(detail.get("sport")),
        )
        proto = str(detail.get("proto") or "")
        if peer is None:
            self._loose(None, fact, ("packet", fact.ref, fact.n))
            return
        if fact.kind == "net.flow_end":
            found = self.connections.flow_end(peer, port, fact.time_ns, proto)
            if found is not None and found.number in self._spots:
                self._join(found, fact)
                return
        connection = self.connections.flow(peer, port, fact.time_ns, proto)
        connection.flow_ref = connection.flow_ref or fact.ref
        verdict = str(detail.get("verdict") or "")
        connection.verdict = verdict or connection.verdict
        if (
            fact.kind == "net.dns"
            and fact.object
            and fact.object not in connection.names
            and len(connection.names) < 50
        ):
            connection.names.append(fact.object)
        if connection.number in self._spots:
            self._join(connection, fact)
        else:
            self._loose(connection, fact, ("connection", connection.number))
        self._signal(connection)

    def _join(self, connection: Connection, fact: Event) -> None:
        turn, bucket, group = self._spots[connection.number]
        group.members.add(fact)
        group.last_ns = fact.time_ns
        self.fold.tally(turn, 1)

    def _loose(self, connection: Connection | None, fact: Event, key: object) -> None:
        turn, bucket = self.fold.bucket(None, None, None, None)
        group = self.fold.add(turn, bucket, key, fact, None)
        if connection is not None:
            group.connection = connection
            self._spots[connection.number] = (turn, bucket, group)

    def _signal(self, connection: Connection) -> None:
        """An undecided program that opens a connection matters; packets prove it where a connect alone does not."""
        if connection.process is None or local_or_probe(connection):
            return
        what = f"{connection.names[0]} (DNS)" if connection.names else str(connection.peer)
        kind = "gateway" if connection.peer in self.connections.gateways else "connection"
        if connection.verdict == "allow":
            kind = "gateway"
        self.fold.signal(connection.process, kind, what, connection.connect_ref or connection.flow_ref)

    # what the gateway saw

    def _gateway(self, fact: Event, phase: str) -> None:
        detail = details(fact)
        if fact.kind == "http.connect":
            connection = self._of_client(detail.get("client"), fact.time_ns)
            if connection is not None and connection.number in self._spots:
                self._join(connection, fact)
            else:
                self._loose(None, fact, ("http", detail.get("flow")))
            return
        key = (str(detail.get("flow")), str(detail.get("id")))
        if key not in self._exchanges:
            self._request(key, self._reader.read(fact), fact)
        elif phase == "ask":
            # A later event of the same exchange knows more of it.
            self._extend(self._exchanges[key].spot, fact)
            self._exchanges[key].update(self._reader.read(fact))
        if phase == "answer":
            self._answer(self._exchanges[key])

    def _of_client(self, client: object, time_ns: int) -> Connection | None:
        if isinstance(client, list | tuple) and len(client) >= 2 and isinstance(client[1], int):
            return self.connections.client(client[1], time_ns)
        return None

    def _request(self, key: tuple[str, str], exchange: Exchange, fact: Event) -> None:
        fold = self.fold
        connection = self._of_client(exchange.client, fact.time_ns)
        process = connection.process if connection is not None else None
        if connection is not None:
            connection.exchanges += 1
        turn = self._begin_turn(exchange, process) if decode_exchange(exchange) is not None else None
        program = process.program if process else None
        edge: Edge | None = _EXPLAINED_BY_CALL
        index: int | None = turn.index if turn is not None else None
        if turn is None:
            index, edge = fold.lineage.place(process, fact.time_ns) if process is not None else (None, None)
        at, bucket = fold.bucket(index, edge, process, program)
        group = fold.add(at, bucket, ("http", *key), fact, edge)
        group.kind = "model.call" if turn is not None else "http.exchange"
        group.object = f"{exchange.method} {exchange.url}"
        group.result = exchange.status
        group.connection = connection
        if turn is not None:
            group.flags.add("transport")
            self._carries(connection, at, bucket)
        self._exchanges[key] = _Held((at, bucket, group), exchange, turn)

    def _carries(self, connection: Connection | None, turn: Turn | None, bucket: Bucket) -> None:
        """The connection that an agent opened for a model call belongs to that call's turn, not to the one before."""
        if connection is None or connection.exchanges != 1 or connection.number not in self._spots:
            return
        old_turn, old, group = self._spots[connection.number]
        if old.process is not None and not old.process.agent:
            return
        self._move((old_turn, old, group), (turn, bucket), ("connection", connection.number))
        group.edge = _EXPLAINED_BY_CALL
        group.flags.add("transport")
        self._spots[connection.number] = (turn, bucket, group)

    def _begin_turn(self, exchange: Exchange, process: Process | None) -> Turn:
        call = decode_exchange(exchange)
        place = self.threads.add(call.messages if call else [])
        turn = Turn(len(self.fold.turns), exchange, place, process, request_ns=exchange.request_ns)
        before = self._last.get(place.thread)
        if before is not None and before.closed_ns is None:
            before.closed_ns = exchange.request_ns
        self._last[place.thread] = turn
        self.fold.turns.append(turn)
        if process is not None:
            self.fold.lineage.asks(process)
        return turn

    def _answer(self, held: _Held) -> None:
        turn = held.turn
        if turn is not None and not turn.decided_ns:
            turn.decided_ns = held.exchange.first_ns or held.exchange.end_ns or held.exchange.request_ns
            if turn.receiver is not None:
                turn.receiver.receives.append(turn.index)

    def _extend(self, spot: Spot, fact: Event) -> None:
        turn, bucket, group = spot
        group.members.add(fact)
        self.fold.tally(turn, 1)


def local_or_probe(connection: Connection) -> bool:
    """Whether nothing left the sandbox: loopback, or a datagram socket that was only asked which way it would send."""
    if connection.peer.is_local or not connection.peer.port:
        return True
    return not connection.flow_ref and (connection.proto == "udp" or (not connection.proto and connection.result == 0))


def _int(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
