"""Model calls that share a WebSocket -> http.request and http.exchange events, a pair each, like any other exchange.

A call's id is that of the exchange that was upgraded, `#` and its number. Its messages are told by these two events;
every other message of a WebSocket stays an event of its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sandtrail.replay.decode.text import as_int, as_text
from sandtrail.replay.models.exchange import WEBSOCKET
from sandtrail.replay.models.websocket import Said, read_message

__all__ = ["Sockets"]

MAX_SOCKETS: Final = 10_000
MAX_OPEN: Final = 200
"""So many calls at once on a WebSocket: to read one again is to look through the messages of all."""
MAX_STEERS: Final = 50

Drafted = tuple[str, int, str, int | None, dict[str, Any]]


@dataclass(slots=True)
class _Call:
    """What a call's event will say, so far."""

    id: str
    lane: str
    asks: list[str]
    """The client's messages that make up its request; none where the server began it by itself."""
    request: dict[str, Any]
    start_ns: int
    response: str = ""
    """The response's id."""
    first_ref: str = ""
    last_ref: str = ""
    first_ns: int = 0
    end_ns: int = 0
    messages: int = 0
    bytes: int = 0
    cut: bool = False


@dataclass(slots=True)
class _Socket:
    """A WebSocket and the calls that are under way on it."""

    flow: str
    id: str
    url: str
    client: list[Any] | None
    count: int = 0
    open: list[_Call] = field(default_factory=list)
    current: dict[str, str] = field(default_factory=dict)
    """Lane -> the response that the server spoke of last."""
    steers: list[tuple[str, str]] = field(default_factory=list)
    """What was sent to steer a response, and has not become part of a request: (response, frame)."""


class Sockets:
    """The upgraded exchanges of one gateway stream."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, _Socket]] = {}
        """By connection and the exchange that was upgraded."""
        self._count = 0

    def upgraded(self, flow: str, ident: str, url: str, client: list[Any] | None) -> None:
        """An exchange has become a WebSocket."""
        if self._count < MAX_SOCKETS:
            self._hold(_Socket(flow, ident, url, client))

    def _hold(self, socket: _Socket) -> None:
        of_flow = self.held.setdefault(socket.flow, {})
        self._count += socket.id not in of_flow
        of_flow[socket.id] = socket

    def feed(self, frame: dict[str, Any], flow: str, ref: str, received_ns: int) -> list[Drafted] | None:
        """The events of a message; None where it is part of no call, and an event of its own."""
        socket = self.held.get(flow, {}).get(as_text(frame.get("id"), 200))
        if socket is None:
            return None
        sent, at_ns = frame.get("from") == "client", as_int(frame.get("at_ns")) or received_ns
        said = read_message(frame) if sent or socket.count else None
        if said is None:
            return None
        if sent:
            return self._sent(socket, said, frame, ref, at_ns)
        return self._received(socket, said, frame, ref, at_ns)

    def closed(self, flow: str, ident: str | None, why: str) -> list[Drafted]:
        """A WebSocket, or all of a connection, has ended: so has what was under way on it."""
        of_flow = self.held.get(flow, {})
        sockets = [of_flow.pop(key) for key in ([*of_flow] if ident is None else [ident]) if key in of_flow]
        self._count -= len(sockets)
        if not of_flow:
            self.held.pop(flow, None)
        return [_told(socket, call, error=why) for socket in sockets for call in socket.open]

    def finish(self, why: str) -> list[Drafted]:
        """No more can come of any."""
        return [event for flow in list(self.held) for event in self.closed(flow, None, why)]

    def _sent(self, socket: _Socket, said: Said, frame: dict[str, Any], ref: str, at_ns: int) -> list[Drafted] | None:
        if said.type == "response.steer" and len(socket.steers) < MAX_STEERS:
            socket.steers.append((said.previous, ref))
        if said.type != "response.create" or not said.asks or len(socket.open) >= MAX_OPEN:
            return None
        return [self._begin(socket, said.lane, [*_steers(socket, said.previous), ref], frame, ref, at_ns)]

    def _begin(
        self, socket: _Socket, lane: str, asks: list[str], frame: dict[str, Any], ref: str, at_ns: int
    ) -> Drafted:
        socket.count += 1
        part = {"bytes": as_int(frame.get("bytes")), "sha256": as_text(frame.get("sha256"), 64)}
        request = {**part, "cut": bool(frame.get("cut")), "ref": asks[-1] if asks else ref}
        call = _Call(f"{socket.id}#{socket.count}", lane, asks, request, at_ns)
        socket.open.append(call)
        return "http.request", at_ns, f"{WEBSOCKET} {socket.url}", None, _detail(socket, call)

    def _received(
        self, socket: _Socket, said: Said, frame: dict[str, Any], ref: str, at_ns: int
    ) -> list[Drafted] | None:
        if said.type == "response.steer.failed":
            _steers(socket, said.previous)
        if not said.of_answer:
            return None
        told: list[Drafted] = []
        call = _answered(socket, said)
        if said.response and (said.lane in socket.current or len(socket.current) < MAX_OPEN):
            socket.current[said.lane] = said.response
        if said.ends:
            socket.current.pop(said.lane, None)
        if call is None and said.type == "response.created" and len(socket.open) < MAX_OPEN:
            # The server goes on by itself with what was sent to steer the response before.
            told.append(self._begin(socket, said.lane, _steers(socket, said.previous), {}, ref, at_ns))
            call = socket.open[-1]
        if call is None:
            return None
        call.response = call.response or said.response
        call.first_ref, call.last_ref = call.first_ref or ref, ref
        call.first_ns, call.end_ns = call.first_ns or at_ns, max(call.end_ns, at_ns)
        call.messages += 1
        call.bytes += as_int(frame.get("bytes"))
        call.cut |= bool(frame.get("cut"))
        if said.ends:
            socket.open.remove(call)
            told.append(_told(socket, call))
        return told

    def dump(self) -> list[dict[str, Any]]:
        """The state as plain data."""
        return [asdict(socket) for of_flow in self.held.values() for socket in of_flow.values()]

    def load(self, state: list[dict[str, Any]]) -> None:
        """Take up a state that `dump` gave."""
        for told in state:
            calls = [_Call(**call) for call in told.pop("open")]
            steers = [(previous, ref) for previous, ref in told.pop("steers")]
            self._hold(_Socket(**told, open=calls, steers=steers))


def _steers(socket: _Socket, previous: str) -> list[str]:
    """Take out what was sent to steer this response."""
    found = [ref for response, ref in socket.steers if response == previous]
    socket.steers = [steer for steer in socket.steers if steer[0] != previous]
    return found


def _answered(socket: _Socket, said: Said) -> _Call | None:
    """The call that a server's message belongs to: what does not say so goes with the one before it in its lane."""
    lane = [call for call in socket.open if call.lane == said.lane]
    # An error may come before its call has a response, and without its lane; then it is of the only one, if of any.
    if not lane and said.type == "error" and len(socket.open) == 1:
        return socket.open[0]
    response = said.response or socket.current.get(said.lane, "")
    found = [call for call in lane if call.response == response] if response else lane
    waiting = [call for call in lane if not call.response] if said.response else []
    return next(iter(found + waiting), None)


def _detail(socket: _Socket, call: _Call) -> dict[str, Any]:
    refs = [ref for ref in (call.request["ref"], call.last_ref) if ref]
    detail = {
        "flow": socket.flow, "id": call.id, "method": WEBSOCKET, "url": socket.url, "client": socket.client,
        "request": call.request, "refs": list(dict.fromkeys(refs)), "asks": call.asks, "lane": call.lane,
        "start_ns": call.start_ns, "asked_ns": call.start_ns,
    }  # fmt: skip
    if call.messages:
        detail |= {
            "response": {"bytes": call.bytes, "sha256": "", "cut": call.cut, "ref": call.last_ref},
            "response_id": call.response, "first_ref": call.first_ref, "streamed": True, "chunks": call.messages,
            "first_ns": call.first_ns, "end_ns": call.end_ns,
        }  # fmt: skip
    return detail


def _told(socket: _Socket, call: _Call, **more: Any) -> Drafted:
    return "http.exchange", call.start_ns, f"{WEBSOCKET} {socket.url}", None, {**_detail(socket, call), **more}
