"""What passes through the gateway and is no HTTP exchange: WebSocket messages, and tunnels of bytes."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from mitmproxy import http, tcp
from wsproto.frame_protocol import Opcode

from sandtrail.collector.gateway.exchange import Link
from sandtrail.collector.gateway.tap import Tap
from sandtrail.collector.gateway.unread import ANSWER, answer_of

__all__ = ["Tunnel", "record_message", "record_websocket_end"]


_KINDS = {Opcode.TEXT: "text", Opcode.BINARY: "binary", Opcode.PING: "ping", Opcode.PONG: "pong"}


def _way(from_client: bool) -> str:
    return "client" if from_client else "server"


def record_message(link: Link, flow: http.HTTPFlow) -> None:
    """Record the WebSocket message that is about to be passed on, and forget it."""
    assert flow.websocket is not None
    message = flow.websocket.messages[-1]
    cap = link.session.policy.limits.response_body
    data, redacted = link.session.redactor.text(message.content)
    frame: dict[str, Any] = {
        "t": "websocket",
        "flow": link.flow,
        "id": flow.id.replace("-", "")[:16],
        "from": _way(message.from_client),
        "kind": _KINDS[message.type],
        "data": data[:cap],
        "bytes": len(message.content),
        "sha256": hashlib.sha256(message.content).hexdigest(),
        "cut": len(data) > cap,
        "at_ns": time.time_ns(),
    }
    flow.websocket.messages.clear()
    link.session.write(frame | ({"redacted": redacted} if redacted else {}), urgent=True)


def record_websocket_end(link: Link, flow: http.HTTPFlow) -> None:
    """Record how the WebSocket ended."""
    assert flow.websocket is not None
    end = flow.websocket
    reason = link.session.redactor.message(end.close_reason or "", 200)
    frame = {"t": "websocket", "flow": link.flow, "id": flow.id.replace("-", "")[:16], "kind": "close"}
    way = _way(bool(end.closed_by_client))
    link.session.write({**frame, "from": way, "code": end.close_code, "reason": reason, "at_ns": time.time_ns()})


class Tunnel:
    """A connection through the gateway that is no HTTP: both directions as they pass, up to the recorded limit."""

    def __init__(self, link: Link, flow: tcp.TCPFlow) -> None:
        self._link = link
        address = flow.server_conn.address or ("", 0)
        self._frame = {
            "t": "tcp",
            "flow": link.flow,
            "host": link.session.redactor.name(address[0]),
            "port": address[1],
        }
        self._begun = b""
        cap = link.session.policy.limits.response_body
        self._taps = {way: Tap(link.session.redactor, "", cap, whole=False) for way in ("client", "server")}

    def record(self, flow: tcp.TCPFlow) -> None:
        """Record the bytes that are about to be passed on, and forget them."""
        message = flow.messages[-1]
        flow.messages.clear()
        way = _way(message.from_client)
        self._write(way, self._taps[way].feed(message.content))

    def answered(self, data: bytes) -> str:
        """The server has sent these bytes: what of that the gateway would have read, if its client's first bytes had
        said that it is that; empty for none."""
        if len(self._begun) >= ANSWER:
            return ""
        self._begun += data[:ANSWER]
        return answer_of(self._begun[:ANSWER])

    def end(self, message: str = "") -> None:
        """Record the rest, and how much there was."""
        for way, tap in self._taps.items():
            self._write(way, tap.finish(cut=bool(message)))
        sums = {way: {"bytes": tap.size, "sha256": tap.sha256, "cut": tap.cut} for way, tap in self._taps.items()}
        text = self._link.session.redactor.message(message)
        self._link.session.write({**self._frame, "end": True, "message": text, "at_ns": time.time_ns(), **sums})

    def _write(self, way: str, data: bytes) -> None:
        if data:
            self._link.session.write({**self._frame, "from": way, "data": data, "at_ns": time.time_ns()})
