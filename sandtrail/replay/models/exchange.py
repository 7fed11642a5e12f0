"""HTTP exchanges put together from the gateway's frames (docs/architecture.md, "Payloads by source")."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from sandtrail.replay.models.body import MAX_BODY
from sandtrail.replay.models.call import scrub

__all__ = ["WEBSOCKET", "Assembler", "Exchange"]

WEBSOCKET = "WEBSOCKET"
"""The method of an exchange that went over a WebSocket, one of many."""

Header = tuple[str, str]


@dataclass(slots=True)
class Exchange:
    """One request and what came back, as far as it was seen. Bodies are as they were on the wire."""

    flow: str
    id: str
    method: str = ""
    url: str = ""
    request_headers: list[Header] = field(default_factory=list)
    request_body: bytes = b""
    request_chunks: bytearray = field(default_factory=bytearray)
    """A streamed request's bytes as they passed."""
    request_decoded: bool = False
    """The request's content coding is undone in the record."""
    request_pending: bool = False
    """Only the head of the request was seen."""
    request_cut: bool = False
    status: int | None = None
    response_headers: list[Header] = field(default_factory=list)
    response_body: bytes = b""
    chunks: bytearray = field(default_factory=bytearray)
    """A streamed response's bytes as they passed."""
    response_decoded: bool = False
    """The response's content coding is undone in the record."""
    response_cut: bool = False
    response_done: bool = False
    """The response's end was seen."""
    error: str | None = None
    client: tuple[str, int] | None = None
    """Address and port of the sandbox's end of the connection."""
    request_ref: str = ""
    response_ref: str = ""
    refs: list[str] = field(default_factory=list)
    request_ns: int = 0
    """When the request began."""
    first_ns: int = 0
    """When the first of the response arrived; 0 while nothing has."""
    end_ns: int = 0
    """When the last of the response arrived; 0 while nothing has."""

    @property
    def asked(self) -> bytes:
        """The request's bytes, as far as they came."""
        return self.request_body or bytes(self.request_chunks)

    @property
    def body(self) -> bytes:
        """The response's bytes, as far as they came."""
        return self.response_body or bytes(self.chunks)


class Assembler:
    """Takes the gateway's frames of one session in order and keeps the exchanges that they make up.

    Never raises on a frame's content. Bodies beyond `MAX_BODY` are cut and say so; frames of more exchanges than
    `limit` are of none.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self.exchanges: dict[tuple[str, str], Exchange] = {}
        self._limit = limit
        self.clients: dict[str, tuple[str, int]] = {}

    def feed(self, frame: dict[str, Any], ref: str, received_ns: int) -> Exchange | None:
        """Take one frame; the exchange that it belongs to, or None where it belongs to none."""
        kind, flow = frame.get("t"), _text(frame.get("flow"))
        if kind == "connect":
            client = frame.get("client")
            if isinstance(client, list) and len(client) >= 2 and isinstance(client[1], int):
                self.clients[flow] = (_text(client[0]), client[1])
            return None
        if kind not in ("request", "request_chunk", "response", "chunk", "error"):
            return None
        exchange = self._exchange(flow, _text(frame.get("id")))
        if exchange is None:
            return None
        if len(exchange.refs) < 1000:
            exchange.refs.append(ref)
        if kind == "request":
            self._request(exchange, frame, ref, received_ns)
        elif kind == "response":
            self._response(exchange, frame, ref, received_ns)
        elif kind == "chunk":
            self._chunk(exchange, frame, received_ns)
        elif kind == "request_chunk":
            exchange.request_cut |= _grow(exchange.request_chunks, frame)
            exchange.request_decoded |= bool(frame.get("decoded"))
        else:
            exchange.error = _text(frame.get("message"))[:1000]
            exchange.response_cut |= bool(frame.get("cut"))
            exchange.end_ns = max(exchange.end_ns, _int(frame.get("at_ns")) or received_ns)
        return exchange

    def _exchange(self, flow: str, ident: str) -> Exchange | None:
        key = (flow, ident)
        if key not in self.exchanges:
            if len(self.exchanges) >= self._limit:
                return None
            self.exchanges[key] = Exchange(flow, ident, client=self.clients.get(flow))
        return self.exchanges[key]

    def _request(self, to: Exchange, frame: dict[str, Any], ref: str, received_ns: int) -> None:
        # A streamed request is told twice: its head before the chunks, its sums after them.
        to.request_ref = to.request_ref or ref
        to.method, to.url = _text(frame.get("method")).upper(), _text(frame.get("url"))
        to.request_headers = _headers(frame.get("headers"))
        body, cut = _body(frame.get("body"))
        to.request_body = body or to.request_body
        to.request_pending = bool(frame.get("stream")) and not frame.get("end_ns") and not frame.get("chunks")
        to.request_decoded |= bool(frame.get("decoded"))
        to.request_cut = to.request_cut or cut or bool(frame.get("cut"))
        to.request_ns = to.request_ns or _int(frame.get("start_ns")) or received_ns

    def _response(self, to: Exchange, frame: dict[str, Any], ref: str, received_ns: int) -> None:
        to.response_ref = ref
        to.status = _int(frame.get("status")) or None
        to.response_headers = _headers(frame.get("headers"))
        # A streamed response's bytes came as chunks; its own frame may come before or after them.
        body, cut = _body(frame.get("body"))
        to.response_body = body or to.response_body
        to.response_decoded |= bool(frame.get("decoded"))
        to.response_cut = to.response_cut or cut or bool(frame.get("cut"))
        to.first_ns = to.first_ns or _int(frame.get("start_ns")) or received_ns
        end_ns = _int(frame.get("end_ns"))
        to.response_done = bool(end_ns) or not frame.get("stream")
        if to.response_done:
            to.end_ns = max(to.end_ns, end_ns or received_ns)

    def _chunk(self, to: Exchange, frame: dict[str, Any], received_ns: int) -> None:
        to.response_cut |= _grow(to.chunks, frame)
        to.response_decoded |= bool(frame.get("decoded"))
        at_ns = _int(frame.get("at_ns")) or received_ns
        to.first_ns = to.first_ns or at_ns
        to.end_ns = max(to.end_ns, at_ns)


def _grow(held: bytearray, frame: dict[str, Any]) -> bool:
    """Add a chunk's bytes to those before; whether some are missing."""
    data, cut = _body(frame.get("data"))
    room = MAX_BODY - len(held)
    held += data[:room]
    return cut or len(data) > room


def _text(value: object) -> str:
    return scrub(value) if isinstance(value, str) else ("" if value is None else str(value)[:200])


def _int(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else 0


def _headers(value: object) -> list[Header]:
    if not isinstance(value, list):
        return []
    return [(_text(h[0]), _text(h[1])) for h in value[:500] if isinstance(h, list | tuple) and len(h) == 2]


def _body(value: object) -> tuple[bytes, bool]:
    """Base64 -> (bytes, whether something is missing)."""
    if value is None or value == "":
        return b"", False
    if not isinstance(value, str):
        return b"", True
    try:
        data = base64.b64decode(value)
    except (binascii.Error, ValueError):
        return b"", True
    return data[:MAX_BODY], len(data) > MAX_BODY
