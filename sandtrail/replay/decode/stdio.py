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

__all__ = ["StdioStream"]

MAX_LINE: Final = 1 << 20
"""A line that is longer is no message that we read."""
MAX_MESSAGE: Final = 48 << 10
_SHOWN: Final = 1000
_NAMES: Final = frozenset({"stdin", "stdout", "stderr"})

Drafted = tuple[str, int, str, int | None, dict[str, Any]]


@dataclass(slots=True)
class StdioStream:
    """The three files of one command. `feed` for every DATA frame."""

    part: str = "record"
    """Which command of the session."""
    lines: dict[str, bytes] = field(default_factory=dict)
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
        if not isinstance(frame, dict) or name not in _NAMES:
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
        *lines, rest = (self.lines.pop(name, b"") + data).split(b"\n")
        if lines and name in self.skipping:
            self.skipping.remove(name)
            del lines[0]
        if last:
            lines.append(rest)
        elif len(rest) > MAX_LINE:
            self.skipping += [] if name in self.skipping else [name]
        elif rest and name not in self.skipping:
            self.lines[name] = rest
        return [event for line in lines if (event := _message(name, line, at_ns, self.part)) is not None]

    def dump(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"lines": self.lines, "skipping": self.skipping, "part": self.part}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state that `dump` gave."""
        self.lines, self.skipping = dict(state["lines"]), list(state["skipping"])
        self.part = str(state.get("part", self.part))


def _message(name: str, line: bytes, at_ns: int, part: str) -> Drafted | None:
    if b'"jsonrpc"' not in line[:MAX_LINE] or len(line) > MAX_LINE:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        return None
    method = value.get("method")
    what = as_text(method, 200) if isinstance(method, str) else "answer"
    beside = {} if part == "record" else {"part": part}
    return "mcp.message", at_ns, what, None, {"on": name, **beside, "message": fit(value, MAX_MESSAGE)}


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(value) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        return b""
