"""Bodies of exchanges while they pass, and what they carried when they have ended."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from sandtrail.replay.decode.text import as_text
from sandtrail.replay.models.contents import contents_of, of_query

__all__ = ["Bodies"]

MAX_HELD: Final = 1 << 20
"""A body that passes in pieces is taken apart up to so many bytes; of a longer one there is the digest of the whole."""
MAX_ALL: Final = 8 << 20


class Bodies:
    """Keeps the pieces of bodies under way. `side` is "request" or "response"."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str, str], bytearray | None] = {}
        self._decoded: set[tuple[str, str, str]] = set()
        self._size = 0

    def add(self, flow: str, ident: str, side: str, frame: Mapping[str, Any]) -> None:
        """Take a piece; a body that grows too long is let go."""
        key = (flow, ident, side)
        held = self._held.setdefault(key, bytearray())
        if frame.get("decoded"):
            self._decoded.add(key)
        if held is None:
            return
        data, whole = _bytes(frame.get("data"))
        if not whole or len(held) + len(data) > MAX_HELD or self._size + len(data) > MAX_ALL:
            self._size -= len(held)
            self._held[key] = None
        else:
            held += data
            self._size += len(data)

    def told(self, flow: str, ident: str, side: str, frame: Mapping[str, Any]) -> dict[str, Any]:
        """What the body carried that this frame ends."""
        key = (flow, ident, side)
        body, whole = _bytes(frame.get("body"))
        if key in self._held and not body:
            held = self._held[key]
            if held is None:
                return {"unread": True}
            body, whole = bytes(held), True
        headers = frame.get("headers")
        pairs = [
            (as_text(pair[0], 200), as_text(pair[1], 4096))
            for pair in (headers[:500] if isinstance(headers, list) else [])
            if isinstance(pair, list | tuple) and len(pair) == 2
        ]
        decoded = bool(frame.get("decoded")) or key in self._decoded
        cut = bool(frame.get("cut")) or not whole
        found = contents_of(body, pairs, decoded=decoded, cut=cut, redacted=bool(frame.get("redacted")))
        queried, left = of_query(as_text(frame.get("url"), 16_384)) if side == "request" else ([], 0)
        if queried:
            found["parts"] = [*found.get("parts", []), *queried]
            found["parts_total"] = found.get("parts_total", 0) + len(queried)
        if left:
            found["unlooked"] = found.get("unlooked", 0) + left
        return found

    def drop(self, flow: str, ident: str) -> None:
        """The exchange has ended."""
        for side in ("request", "response"):
            self._size -= len(self._held.pop((flow, ident, side), None) or b"")
            self._decoded.discard((flow, ident, side))

    def dump(self) -> list[list[Any]]:
        """The state as plain data."""
        return [[*key, None if held is None else bytes(held), key in self._decoded] for key, held in self._held.items()]

    def load(self, state: list[list[Any]]) -> None:
        """Take up a state that `dump` gave."""
        self._held = {(f, i, s): None if held is None else bytearray(held) for f, i, s, held, _ in state}
        self._decoded = {(f, i, s) for f, i, s, _, decoded in state if decoded}
        self._size = sum(len(held or b"") for held in self._held.values())


def _bytes(value: object) -> tuple[bytes, bool]:
    if not value:
        return b"", True
    if not isinstance(value, str):
        return b"", False
    try:
        return base64.b64decode(value), True
    except (binascii.Error, ValueError):
        return b"", False
