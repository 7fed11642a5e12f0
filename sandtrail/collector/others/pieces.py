"""Bytes -> records, each verbatim: lines of a log, JSON printed over several lines, batches in one array."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

__all__ = ["MAX_RECORD", "Lines", "Piece", "pieces_of"]

MAX_RECORD: Final = 8 << 20
MAX_PIECES: Final = 10_000
"""Records of one text: each becomes a frame, and two bytes are enough for one."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


class Piece(NamedTuple):
    """One record."""

    data: bytes
    """As it came, up to `MAX_RECORD`."""
    size: int
    value: dict[str, Any] | None
    """The JSON object that it is; None where it is none."""

    @property
    def cut(self) -> bool:
        """Whether less is kept than came."""
        return self.size > len(self.data)


def pieces_of(data: bytes) -> Iterator[Piece]:
    """The JSON objects one after the other, of an array, or apart by white space; from where that ends on, all the rest
    is one piece. So is what comes behind `MAX_PIECES`."""
    text = data.decode("utf-8", "surrogateescape")
    at, listed, count = 0, False, 0
    while (at := _after_space(text, at)) < len(text):
        if text[at] in ("]," if listed else "["):
            listed = text[at] != "]"
            at += 1
            continue
        try:
            value, end = _decode(text, at)
        except (ValueError, RecursionError):
            value, end = None, len(text)
        if not isinstance(value, dict) or count == MAX_PIECES:
            yield _piece(text[at:], None)
            return
        yield _piece(text[at:end], value)
        at, count = end, count + 1


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _piece(text: str, value: dict[str, Any] | None) -> Piece:
    data = text.encode("utf-8", "surrogateescape").rstrip()
    return Piece(data[:MAX_RECORD], len(data), value if len(data) <= MAX_RECORD else None)


class Lines:
    """Puts lines together from bytes as they come. `spread`: an object may be printed over several lines, its first `{`
    and its last `}`, with everything between them indented, as `json.dumps(..., indent=…)` does."""

    def __init__(self, *, spread: bool = False, at: int = 0) -> None:
        """`at`: where in its file the first byte stands."""
        self._spread = spread
        self._line = bytearray()
        self._line_size = 0
        self._held = bytearray()
        self._held_size = 0
        self._at = self._line_at = self._held_at = at
        self.unit = at, at
        """From where to where the records stand that come now: of one line, or of the lines of one object."""

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The records that these bytes complete."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._grow(line)
            self._at += 1
            yield from self._ended()
        self._grow(rest)

    def finish(self) -> Iterator[Piece]:
        """Nothing more comes: what is left, though its end is missing."""
        if self._line_size:
            yield from self._ended()
        yield from self._let_go()

    def _grow(self, data: bytes) -> None:
        self._line += data[: max(0, MAX_RECORD - len(self._line))]
        self._line_size += len(data)
        self._at += len(data)

    def _ended(self) -> Iterator[Piece]:
        line, size, begun = bytes(self._line), self._line_size, self._line_at
        self._line, self._line_size, self._line_at = bytearray(), 0, self._at
        bare = line.rstrip()
        if self._held_size and not (bare == b"}" or line[:1] in (b" ", b"\t")):
            yield from self._let_go(begun)  # it was none, or somebody else wrote between its lines
        if self._held_size or (self._spread and bare == b"{"):
            self._held_at = self._held_at if self._held_size else begun
            self._held += (line + b"\n")[: max(0, MAX_RECORD - len(self._held))]
            self._held_size += size + 1
            if bare == b"}":
                yield from self._let_go()
            return
        self.unit = begun, self._at
        if size > len(line):
            yield Piece(line, size, None)
        elif bare:
            yield from pieces_of(bare)

    def _let_go(self, end: int | None = None) -> Iterator[Piece]:
        held, size = bytes(self._held), self._held_size
        self._held, self._held_size = bytearray(), 0
        self.unit = self._held_at, self._at if end is None else end
        if size > len(held):
            yield Piece(held, size, None)
        elif held:
            yield from pieces_of(held)
