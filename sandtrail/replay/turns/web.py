"""The gateway's part of the fold: exchanges under the processes that made them, model calls as turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandtrail.replay.events import Event
from sandtrail.replay.models import Exchange, ModelCall, decode_exchange
from sandtrail.replay.models.exchange import WEBSOCKET
from sandtrail.replay.models.mcp import decode_mcp
from sandtrail.replay.turns.buckets import Bucket, Edge, Group
from sandtrail.replay.turns.carried import carried
from sandtrail.replay.turns.conversation import Threads
from sandtrail.replay.turns.exchanges import ExchangeReader, Frames
from sandtrail.replay.turns.facts import details, whole
from sandtrail.replay.turns.mcp import SAME, Protocol
from sandtrail.replay.turns.modelturns import Turn
from sandtrail.replay.turns.network import Connection
from sandtrail.replay.turns.passages import Passages, Told
from sandtrail.replay.turns.process import Process
from sandtrail.replay.turns.traffic import Spot, Traffic

if TYPE_CHECKING:
    from sandtrail.replay.turns.fold import Fold

__all__ = ["Held", "Web"]

MAX_WHY = 300
MAX_MISPLACED = 10_000
_CARRIED = Edge("it carried this turn's model call", 1.0)

Key = tuple[str, str]


def _tell(connection: Connection, fact: Event, detail: dict[str, Any]) -> None:
    """Keep what the gateway says of a connection as a whole."""
    if fact.kind == "http.tls" and not detail.get("established"):
        connection.sni = fact.object or "a name that it did not give"
    elif fact.kind == "http.tunnel":
        connection.tunnel = fact.object
        connection.cut_off = connection.cut_off or str(detail.get("message") or "")[:MAX_WHY]
    elif fact.kind == "http.error":
        connection.cut_off = connection.cut_off or fact.object[:MAX_WHY]
    elif fact.kind == "http.close":
        connection.up, connection.down = whole(detail.get("up_bytes")), whole(detail.get("down_bytes"))


def _relay(told: Told, detail: dict[str, Any]) -> str:
    """What a request passes on, in words; the digest is that of its whole body."""
    which = f" ({told.tool_call_id[:60]})" if told.tool_call_id else ""
    request = detail.get("request")
    sent = request if isinstance(request, dict) else {}
    digest = str(sent.get("sha256") or "")
    mark = f", sha256 {digest[:16]}…" if digest and whole(sent.get("bytes")) else ""
    return f"sends the tool's result{which} that turn {told.turn} was told, word for word{mark}"


@dataclass(slots=True)
class Held:
    """An exchange and where it stands."""

    spot: Spot
    exchange: Exchange
    connection: Connection | None
    turn: Turn | None = None
    answered: bool = False
    relays: Told | None = None
    """The tool's result that it passes on word for word."""


class Web:
    """Takes the events of the gateway."""

    def __init__(self, fold: Fold, traffic: Traffic, frames: Frames) -> None:
        self.fold = fold
        self.threads = Threads()
        self.protocol = Protocol(fold.turns)
        self.reader = ExchangeReader(frames)
        self._traffic = traffic
        self._held: dict[Key, Held] = {}
        self._flows: dict[str, Connection] = {}
        self._last: dict[int, Turn] = {}
        self.passages = Passages()
        self.relayed: list[Held] = []
        """Exchanges that carried a tool's result away."""
        self.misplaced: list[tuple[Event, Connection | None]] = []
        """Placeholders of secrets that the gateway stopped, and the connections that they came on."""

    def take(self, fact: Event, phase: str) -> None:
        """Take one event. An exchange is taken in steps: `ask` and `answer` by their times, `told` where it counts."""
        detail = details(fact)
        flow = str(detail.get("flow") or "")
        if fact.kind not in ("http.request", "http.exchange"):
            self._beside(fact, detail, flow)
            return
        key = (flow, str(detail.get("id") or ""))
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = self._ask(key, self.reader.read(fact), fact)
        if phase != "ask":
            self._update(held, fact)
        if phase != "answer":
            group = held.spot[2]
            group.summary, flags = carried(detail)
            group.flags |= flags
            if held.relays is not None:
                group.relay = _relay(held.relays, detail)
                group.flags.add("relays")
            self.fold.extend(*held.spot, fact)
        if phase == "answer":
            self._answer(held)

    def _beside(self, fact: Event, detail: dict[str, Any], flow: str) -> None:
        """Connects, handshakes and ends."""
        connection = self._flows.get(flow) or self._of_client(detail.get("client"), fact.time_ns)
        if connection is not None:
            self._flows[flow] = connection
            _tell(connection, fact, detail)
        if fact.kind == "http.exfiltration" and len(self.misplaced) < MAX_MISPLACED:
            self.misplaced.append((fact, connection))
        if connection is None or not self._traffic.join(connection, fact):
            self._traffic.loose(None, fact, ("http", flow))

    def _of_client(self, client: object, time_ns: int) -> Connection | None:
        if isinstance(client, list | tuple) and len(client) >= 2 and isinstance(client[1], int):
            return self._traffic.connections.client(client[1], time_ns)
        return None

    def _ask(self, key: Key, exchange: Exchange, fact: Event) -> Held:
        connection = self._flows.get(key[0]) or self._of_client(exchange.client, fact.time_ns)
        process = connection.process if connection is not None else None
        if connection is not None and exchange.method != WEBSOCKET:
            connection.exchanges += 1
        fold = self.fold
        index, edge = fold.lineage.place(process, fact.time_ns) if process is not None else (None, None)
        turn, bucket = fold.bucket(index, edge, process, process.program if process else None)
        group = bucket.groups[("http", *key)] = Group(
            fact.ref, "http.exchange", exchange.request_ns, f"{exchange.method} {exchange.url}", edge, exchange.status
        )
        group.connection = connection
        fold.mark_late(turn, bucket, group, fact.time_ns)
        held = Held((turn, bucket, group), exchange, connection)
        # Of a request that passes in pieces only the head is there yet; what it says is known when it has passed.
        if exchange.request_pending:
            return held
        if (call := decode_exchange(exchange)) is not None:
            self._becomes_turn(key, held, call)
        else:
            self._becomes_mcp(key, held)
        return held

    def _update(self, held: Held, fact: Event) -> None:
        """A later event of the same exchange knows more of it."""
        if held.answered:
            return
        held.answered = True
        held.exchange = self.reader.read(fact)
        held.spot[2].result = held.exchange.status
        if held.turn is not None:
            held.turn.exchange, held.turn.dirty = held.exchange, True
        elif (call := decode_exchange(held.exchange)) is not None:
            # Only the answer shows what it is, where the path does not.
            self._becomes_turn((held.exchange.flow, held.exchange.id), held, call)
        else:
            self._told_mcp((held.exchange.flow, held.exchange.id), held)
            held.relays = self.passages.exchanged(held.exchange)
            if held.relays is not None and len(self.relayed) < MAX_MISPLACED:
                self.relayed.append(held)
        self.fold.others.settle()

    def _becomes_turn(self, key: Key, held: Held, call: ModelCall) -> None:
        process = held.connection.process if held.connection is not None else None
        turn = held.turn = self.begin(held.exchange, call, process)
        if process is not None:
            self.fold.lineage.asks(process)
        _, bucket = self.fold.bucket(turn.index, _CARRIED, process, process.program if process else None)
        group = self._traffic.move(held.spot, (turn, bucket), ("http", *key))
        group.kind, group.edge, group.mcp = "model.call", _CARRIED, None
        group.flags |= {"transport"}
        group.flags.discard("late")
        held.spot = (turn, bucket, group)
        upgraded, _, number = key[1].partition("#")
        if number == "1":
            self._upgraded((key[0], upgraded), turn, bucket)
        if number in ("", "1"):
            self._carries(held.connection, turn, bucket)

    def begin(self, exchange: Exchange, call: ModelCall | None, receiver: Process | None) -> Turn:
        """A new turn, of the conversation that the call belongs to."""
        place = self.threads.add(call or ModelCall(api=""))
        turn = Turn(len(self.fold.turns), exchange, place, receiver, request_ns=exchange.request_ns)
        before = self._last.get(place.thread)
        if before is not None and before.closed_ns is None:
            before.closed_ns = turn.request_ns
        self._last[place.thread] = turn
        if call is not None:
            self.passages.told(turn.index, call, place.new_from)
        self.fold.turns.append(turn)
        return turn

    def _upgraded(self, key: Key, turn: Turn, bucket: Bucket) -> None:
        """The exchange that became a WebSocket carried its calls: it belongs to the first one's turn."""
        held = self._held.get(key)
        if held is None or held.turn is not None:
            return
        group = self._traffic.move(held.spot, (turn, bucket), ("http", *key))
        group.edge = _CARRIED
        group.flags.add("transport")
        group.flags.discard("late")
        held.spot = (turn, bucket, group)

    def _becomes_mcp(self, key: Key, held: Held) -> None:
        """A call of the Model Context Protocol stands under the decision that asked for it, where one did."""
        group = held.spot[2]
        group.mcp = decode_mcp(held.exchange)
        if group.mcp is None:
            return
        group.kind = "mcp.call"
        found = self.protocol.asked(group.mcp, held.exchange.request_ns, group.ref)
        if found is None:
            return
        turn, edge = found
        process = held.connection.process if held.connection is not None else None
        _, bucket = self.fold.bucket(turn.index, edge, process, process.program if process else None)
        group = self._traffic.move(held.spot, (turn, bucket), ("http", *key))
        group.edge = edge
        group.flags |= {"decided"} if edge.confidence >= SAME else set()
        group.flags.discard("late")
        held.spot = (turn, bucket, group)

    def _told_mcp(self, key: Key, held: Held) -> None:
        before = held.spot[2].mcp
        if before is None:
            # The request passed in pieces, or only the answer shows what it is.
            self._becomes_mcp(key, held)
            said = held.spot[2].mcp
        else:
            said = held.spot[2].mcp = decode_mcp(held.exchange)
        if said is not None:
            self.protocol.told(said, before)

    def _carries(self, connection: Connection | None, turn: Turn, bucket: Bucket) -> None:
        """The connection that an agent opened for a model call belongs to that call's turn, not to the one before."""
        spot = self._traffic.spots.get(connection.number) if connection is not None else None
        if connection is None or spot is None or connection.exchanges != 1:
            return
        if spot[1].process is not None and not spot[1].process.agent:
            return
        group = self._traffic.move(spot, (turn, bucket), ("connection", connection.number))
        group.edge = _CARRIED
        group.flags.add("transport")
        self._traffic.spots[connection.number] = (turn, bucket, group)

    def _answer(self, held: Held) -> None:
        turn, exchange = held.turn, held.exchange
        if turn is None or turn.decided_ns:
            return
        turn.decided_ns = exchange.first_ns or exchange.end_ns or exchange.request_ns
        self.fold.lineage.decided(turn)
        if turn.call is not None:
            self.threads.answered(turn.index - 1, turn.call)
        if turn.receiver is not None:
            turn.receiver.receives.append(turn.index)
