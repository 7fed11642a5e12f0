"""Frames of source `stdio` -> events: one `stdio.*` a piece, and one `mcp.message` a line that is JSON-RPC.

MCP over stdio (modelcontextprotocol.io, "Transports"): messages of JSON-RPC 2.0, one a line, over stdin and stdout;
what goes to stderr is for people.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any, Final

from sandtrail.replay.decode.text import as_int, as_text, fit, text
from sandtrail.replay.models.body import load_json

__all__ = ["StdioStream"]

MAX_LINE: Final = 1 << 20
"""A line that is longer is no message that we read."""
MAX_BATCH: Final = 1000
MAX_MESSAGE: Final = 48 << 10
_SHOWN: Final = 1000
_NAMES: Final = frozenset({"stdin", "stdout", "stderr"})

Drafted = tuple[str, int, str, int | None, dict[str, Any]]


@dataclass(slots=True)
class StdioStream:
    """The three files of one command. `feed` for every DATA frame."""

    part: str = "record"
    """Which command of the session."""
    lines: dict[str, bytearray] = field(default_factory=dict)
    """What has come of a line that nothing ended yet."""
    skipping: list[str] = field(default_factory=list)
    """Files on which the rest of a line that is too long is still coming."""

    def feed(self, payload: bytes) -> list[Drafted]:
        """The events of one frame."""
        try:
            frame = json.loads(payload)
        except (ValueError, RecursionError):
            frame = None
        name = frame.get("t") if isinstance(frame, dict) else None
        if not isinstance(frame, dict) or not isinstance(name, str) or name not in _NAMES:
            reason = "a frame of stdio that says nothing known"
            return [("unknown", 0, reason, None, {"type": "stdio", "reason": reason, "bytes": len(payload)})]
        data, at_ns = _bytes(frame.get("data")), as_int(frame.get("at_ns"))
        detail: dict[str, Any] = {"text": text(data, _SHOWN)} | (
            {"cut": {"text": len(data)}} if len(data) > _SHOWN else {}
        )
        if frame.get("end"):
            detail |= {
                "end": True,
                "sha256": as_text(frame.get("sha256"), 64),
                "reason": as_text(frame.get("reason"), 200),
            }
        size = as_int(frame.get("bytes"))
        events: list[Drafted] = [(f"stdio.{name}", at_ns, detail["text"].partition("\n")[0][:200], size, detail)]
        if name != "stderr":
            events += self._messages(name, data, at_ns, last=bool(frame.get("end")))
        return events

    def _messages(self, name: str, data: bytes, at_ns: int, *, last: bool) -> list[Drafted]:
        *ended, rest = data.split(b"\n")
        events = [event for piece in ended for event in self._ended(name, piece, at_ns)]
        events += self._grown(name, rest, at_ns)
        return events + (self._ended(name, b"", at_ns) if last else [])

    def _ended(self, name: str, piece: bytes, at_ns: int) -> list[Drafted]:
        """A line is whole, or what a line that is too long had left is over."""
        if name in self.skipping:
            self.skipping.remove(name)
            return []
        line = self.lines.pop(name, None)
        return self._told(name, bytes(line + piece) if line else piece, at_ns)

    def _grown(self, name: str, piece: bytes, at_ns: int) -> list[Drafted]:
        """More of a line has come."""
        if not piece or name in self.skipping:
            return []
        line = self.lines.setdefault(name, bytearray())
        line += piece
        if len(line) <= MAX_LINE:
            return []
        self.skipping.append(name)
        return self._told(name, bytes(self.lines.pop(name)), at_ns)

    def _told(self, name: str, line: bytes, at_ns: int) -> list[Drafted]:
        """The messages of a line: one, or those of a batch (2025-03-26)."""
        if b'"jsonrpc"' not in line:
            return []
        on = {"on": name} | ({} if self.part == "record" else {"part": self.part})
        if len(line) > MAX_LINE:
            return [_unread(f"a message over stdio of more than {MAX_LINE} bytes is not read", at_ns, len(line), on)]
        value, _ = load_json(line)
        messages = [one for one in (value if isinstance(value, list) else [value]) if _is_ours(one)]
        events = [_message(message, at_ns, on) for message in messages[:MAX_BATCH]]
        if left := len(messages) - len(events):
            events.append(_unread(f"{left} messages of a batch over stdio are left out", at_ns, len(line), on))
        return events

    def dump(self) -> dict[str, Any]:
        """The state as plain data."""
        lines = {name: bytes(line) for name, line in self.lines.items()}
        return {"lines": lines, "skipping": self.skipping, "part": self.part}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state that `dump` gave."""
        self.lines = {name: bytearray(line) for name, line in state["lines"].items()}
        self.skipping = list(state["skipping"])
        self.part = str(state.get("part", self.part))


def _is_ours(value: object) -> bool:
    return isinstance(value, dict) and value.get("jsonrpc") == "2.0"


def _message(message: dict[str, Any], at_ns: int, on: dict[str, str]) -> Drafted:
    method = message.get("method")
    what = as_text(method, 200) if isinstance(method, str) else "answer"
    return "mcp.message", at_ns, what, None, {**on, "message": fit(message, MAX_MESSAGE)}


def _unread(reason: str, at_ns: int, size: int, on: dict[str, str]) -> Drafted:
    return "unknown", at_ns, reason, None, {"type": "stdio", **on, "reason": reason, "bytes": size}


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(value) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        return b""
