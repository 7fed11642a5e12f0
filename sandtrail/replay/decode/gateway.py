"""The gateway's frames -> http.* events: one `http.request` when a request is there, one `http.exchange` when it ends.

Bodies stay in the evidence; an exchange names the frames that hold them. Several exchanges may be under way on one
connection (`flow`), told apart by `id`. Calls that share a WebSocket are exchanges too (decode/websocket.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any, Final

from sandtrail.replay.decode.bodies import Bodies
from sandtrail.replay.decode.exfiltration import attempts, swaps, why_refused
from sandtrail.replay.decode.text import as_int, as_text, fit
from sandtrail.replay.decode.websocket import Sockets

__all__ = ["ENDS", "Exchanges"]

ENDS: Final = "the record of the gateway ends first"
"""Why an exchange is cut that the gateway says nothing more of."""
MAX_OPEN: Final = 50_000
_MAX_URL: Final = 16_384
_PLAIN: Final = frozenset({"tls", "websocket", "tcp"})
_OF_EXCHANGES: Final = frozenset({"request", "request_chunk", "response", "chunk", "error"})
_REFUSED: Final = 5
"""The code of a DNS answer, RFC 1035."""
_MAX_NAMES: Final = 8
_BULKY: Final = frozenset({"t", "flow", "data", "body"})

Drafted = tuple[str, int, str, int | None, dict[str, Any]]
"""kind, time_ns (0: not told), object, result, detail."""


@dataclass(slots=True)
class _Exchange:
    """What an exchange's event will say, so far."""

    flow: str
    id: str
    client: list[Any] | None
    method: str = ""
    url: str = ""
    status: int | None = None
    request: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    streamed: bool = False
    chunks: int = 0
    chunk_bytes: int = 0
    refs: list[str] = field(default_factory=list)
    start_ns: int = 0
    first_ns: int = 0
    end_ns: int = 0
    asked_ns: int = 0
    """When the request was whole."""
    asking: bool = False
    """Only the head of the request was told."""
    names: list[str] = field(default_factory=list)
    """Every host that the request goes by, where they are several."""
    secrets: list[dict[str, Any]] = field(default_factory=list)
    """Which secrets the gateway put in."""


class Exchanges:
    """Puts the frames of one gateway stream together. `feed` for every DATA frame, `finish` at the stream's end."""

    def __init__(self) -> None:
        self.open: dict[str, dict[str, _Exchange]] = {}
        """By connection and id."""
        self._count = 0
        self.clients: dict[str, list[Any]] = {}
        self.sockets = Sockets()
        self.bodies = Bodies()

    def feed(self, ref: str, received_ns: int, payload: bytes) -> list[Drafted]:
        """The events of one frame; empty for a chunk of a response under way."""
        try:
            frame = json.loads(payload)
        except (ValueError, RecursionError) as error:
            return [_unknown(f"a gateway frame that is not JSON: {type(error).__name__}", payload)]
        if not isinstance(frame, dict):
            return [_unknown("a gateway frame that is no map", payload)]
        kind, flow, at_ns = as_text(frame.get("t"), 40), as_text(frame.get("flow"), 200), as_int(frame.get("at_ns"))
        if kind == "connect":
            return [self._connect(flow, frame, at_ns)]
        if kind == "close":
            return self._close(flow, frame, at_ns)
        if kind == "dns":
            return [_refused_name(frame, at_ns), *attempts(frame, flow)]
        if kind == "websocket":
            return self._websocket(flow, frame, ref, received_ns)
        if kind in _PLAIN or (kind == "error" and "id" not in frame):
            return _plain_event(kind, flow, frame, at_ns)
        if kind not in _OF_EXCHANGES:
            return [_unknown(f"a gateway frame of kind {kind!r}", payload)]
        ident = as_text(frame.get("id"), 200)
        exchange = self.open.get(flow, {}).get(ident)
        if exchange is None:
            if kind in ("chunk", "request_chunk"):
                return []  # what still comes after an exchange was told out
            if self._count >= MAX_OPEN:
                return [_unknown("more open exchanges than are followed", payload)]
            exchange = self._hold(_Exchange(flow, ident, self.clients.get(flow)))
        exchange.refs = [*exchange.refs[:1], ref]
        return self._step(exchange, kind, frame, ref, received_ns)

    def _hold(self, exchange: _Exchange) -> _Exchange:
        self._count += 1
        self.open.setdefault(exchange.flow, {})[exchange.id] = exchange
        return exchange

    def _step(self, to: _Exchange, kind: str, frame: dict[str, Any], ref: str, received_ns: int) -> list[Drafted]:
        if kind == "request":
            return self._asked(to, frame, ref, received_ns)
        if kind == "chunk":
            self.bodies.add(to.flow, to.id, "response", frame)
            to.chunks += 1
            to.streamed = True
            data = frame.get("data")
            to.chunk_bytes += len(data) * 3 // 4 - data.count("=", -2) if isinstance(data, str) else 0
            at = as_int(frame.get("at_ns")) or received_ns
            to.first_ns = to.first_ns or at
            to.end_ns = max(to.end_ns, at)
            return []
        if kind == "request_chunk":
            self.bodies.add(to.flow, to.id, "request", frame)
            return []
        if kind == "error":
            to.end_ns = max(to.end_ns, as_int(frame.get("at_ns")) or received_ns)
            if "body_bytes" in frame and to.response is not None:
                to.response = _part(frame, str(to.response["ref"]))
            ended = self._end(to, error=as_text(frame.get("message"), 2000), **why_refused(frame))
            return [ended, *attempts(frame, to.flow)]
        to.status = as_int(frame.get("status")) or None
        to.response = _part(frame, ref)
        to.streamed = to.streamed or bool(frame.get("stream"))
        to.first_ns = to.first_ns or as_int(frame.get("start_ns")) or received_ns
        end_ns = as_int(frame.get("end_ns"))
        if not end_ns and (frame.get("stream") or frame.get("cut")):
            return []  # only the headers, or the part that came: chunks follow, or the error that says why no more
        to.end_ns = max(to.end_ns, end_ns or received_ns)
        to.response |= self.bodies.told(to.flow, to.id, "response", frame)
        return [self._end(to)]

    def _asked(self, to: _Exchange, frame: dict[str, Any], ref: str, received_ns: int) -> list[Drafted]:
        """A request; of one whose body is recorded as it passes, first the head and then the end."""
        again = to.request is not None
        to.asking = not again and bool(frame.get("stream"))
        to.method, to.url = as_text(frame.get("method"), 64).upper(), as_text(frame.get("url"), _MAX_URL)
        to.request = _part(frame, str(to.request["ref"]) if to.request is not None else ref)
        if again or not frame.get("stream"):
            to.request |= self.bodies.told(to.flow, to.id, "request", frame)
        to.secrets = swaps(frame)
        names = frame.get("names")
        to.names = [as_text(name, 255) for name in names[:_MAX_NAMES]] if isinstance(names, list) else []
        to.start_ns = to.start_ns or as_int(frame.get("start_ns")) or received_ns
        to.asked_ns = as_int(frame.get("end_ns")) or received_ns
        return [] if again else [("http.request", to.start_ns, f"{to.method} {to.url}", None, _detail(to))]

    def _end(self, exchange: _Exchange, **more: Any) -> Drafted:
        of_flow = self.open.get(exchange.flow, {})
        if of_flow.pop(exchange.id, None) is not None:
            self._count -= 1
        if not of_flow:
            self.open.pop(exchange.flow, None)
        self.bodies.drop(exchange.flow, exchange.id)
        if exchange.status == HTTPStatus.SWITCHING_PROTOCOLS:
            self.sockets.upgraded(exchange.flow, exchange.id, exchange.url, exchange.client)
        name = f"{exchange.method} {exchange.url}".strip()
        return "http.exchange", exchange.start_ns, name, exchange.status, {**_detail(exchange), **more}

    def _websocket(self, flow: str, frame: dict[str, Any], ref: str, received_ns: int) -> list[Drafted]:
        told = self.sockets.feed(frame, flow, ref, received_ns)
        if told is not None:
            return told
        ended = frame.get("kind") == "close"
        over = self.sockets.closed(flow, as_text(frame.get("id"), 200), "the WebSocket closed first") if ended else []
        return [*over, *_plain_event("websocket", flow, frame, as_int(frame.get("at_ns")))]

    def _connect(self, flow: str, frame: dict[str, Any], at_ns: int) -> Drafted:
        client = frame.get("client")
        host, port = as_text(frame.get("host"), 512), as_int(frame.get("port"))
        detail: dict[str, Any] = {"flow": flow, "client": None, "host": host, "port": port}
        if isinstance(client, list) and len(client) >= 2:
            detail["client"] = [as_text(client[0], 64), as_int(client[1])]
            if len(self.clients) >= MAX_OPEN:
                self.clients.pop(next(iter(self.clients)))
            self.clients[flow] = detail["client"]
        if frame.get("turned"):
            detail["turned"] = True
        if frame.get("sni"):
            detail["sni"] = as_text(frame["sni"], 255)
        return "http.connect", at_ns, f"{host}:{port}", None, detail

    def _close(self, flow: str, frame: dict[str, Any], at_ns: int) -> list[Drafted]:
        self.clients.pop(flow, None)
        ended = list(self.open.get(flow, {}).values())
        sums: dict[str, Any] = {key: as_int(frame[key]) for key in ("up_bytes", "down_bytes") if key in frame}
        client = frame.get("client")
        if isinstance(client, list) and len(client) >= 2:
            sums["client"] = [as_text(client[0], 64), as_int(client[1])]
        events: list[Drafted] = [("http.close", at_ns, "", None, {"flow": flow, **sums})]
        why = "the connection closed first"
        return events + [self._cut_off(exchange, why) for exchange in ended] + self.sockets.closed(flow, None, why)

    def _cut_off(self, exchange: _Exchange, why: str) -> Drafted:
        """Of this one no more can come, and its own end was not told: what there is of it is not all."""
        if exchange.asking and exchange.request is not None:
            exchange.request["cut"] = True
        if exchange.response is not None:
            exchange.response |= {"bytes": max(exchange.response["bytes"], exchange.chunk_bytes), "cut": True}
        return self._end(exchange, error=why)

    def finish(self, why: str = ENDS) -> list[Drafted]:
        """The exchanges of which no more can come."""
        ended = [exchange for of_flow in self.open.values() for exchange in of_flow.values()]
        return [self._cut_off(exchange, why) for exchange in ended] + self.sockets.finish(why)

    def dump(self) -> dict[str, Any]:
        """The state as plain data."""
        exchanges = [asdict(exchange) for of_flow in self.open.values() for exchange in of_flow.values()]
        return {
            "open": exchanges,
            "clients": self.clients,
            "sockets": self.sockets.dump(),
            "bodies": self.bodies.dump(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state that `dump` gave."""
        self.clients = dict(state["clients"])
        for told in state["open"]:
            self._hold(_Exchange(**told))
        self.sockets.load(state["sockets"])
        self.bodies.load(state.get("bodies") or [])


def _part(frame: dict[str, Any], ref: str) -> dict[str, Any]:
    sha256 = as_text(frame.get("body_sha256"), 64)
    return {"bytes": as_int(frame.get("body_bytes")), "sha256": sha256, "cut": bool(frame.get("cut")), "ref": ref}


def _detail(exchange: _Exchange) -> dict[str, Any]:
    detail = {key: value for key, value in asdict(exchange).items() if value not in (None, 0, "", False, [])}
    return {"flow": exchange.flow, "id": exchange.id, **detail}


def _plain_event(kind: str, flow: str, frame: dict[str, Any], at_ns: int) -> list[Drafted]:
    """The event of a frame that is none of an exchange's."""
    detail = {"flow": flow, **fit({key: value for key, value in frame.items() if key not in _BULKY}, 16_384)}
    if kind == "tls":
        return [("http.tls", at_ns, as_text(frame.get("sni"), 255), None, detail)]
    if kind == "error":
        return [("http.error", at_ns, as_text(frame.get("message"), 500), None, detail), *attempts(frame, flow)]
    if kind == "websocket":
        way = f"{as_text(frame.get('from'), 20)} {as_text(frame.get('kind'), 20)}"
        size = as_int(frame["bytes"]) if "bytes" in frame else None
        return [("http.websocket", at_ns, way, size, detail)]
    if not frame.get("end"):
        return []  # bytes of a tunnel on their way; its end has their sums
    where = f"{as_text(frame.get('host'), 512)}:{as_int(frame.get('port'))}"
    return [("http.tunnel", at_ns, where, None, detail)]


def _refused_name(frame: dict[str, Any], at_ns: int) -> Drafted:
    """A name that the gateway did not look up; the question itself is in the packet filter's record."""
    ends = [frame.get(end) for end in ("client", "server")]
    (src, sport), (dst, dport) = (
        (as_text(end[0], 64), as_int(end[1])) if isinstance(end, list) and len(end) >= 2 else ("", 0) for end in ends
    )
    told = {key: value for key, value in frame.items() if key not in _BULKY and key not in ("client", "server")}
    peers = {"src": src, "sport": sport, "dst": dst, "dport": dport, "peer": f"{dst}:{dport}"}
    detail = {**fit(told, 16_384), **peers, "via": "gateway", "verdict": "denied", "answer": True}
    return "net.dns", at_ns, as_text(frame.get("name"), 512), _REFUSED, detail


def _unknown(reason: str, payload: bytes) -> Drafted:
    detail = {"type": "gateway", "reason": reason, "bytes": len(payload), "head": payload[:64].hex()}
    return "unknown", 0, reason, None, detail
