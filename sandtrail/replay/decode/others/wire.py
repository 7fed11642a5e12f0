"""Protobuf messages -> maps, by tables of the fields that we know; the others are counted.

A few bytes can stand for a great many messages, so all fields of a reading share one budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sandtrail.replay.decode.text import text

__all__ = ["Tables", "Wire"]

Tables = Mapping[str, Mapping[int, tuple[str, str]]]
"""Message -> field number -> (name, kind): `text`, `number`, or the name of a message; `*` for many."""
MAX_FIELDS: Final = 200_000
_MAX_DEPTH: Final = 10


class Wire:
    """One reading. Specification: protobuf.dev, "Encoding"."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._budget = MAX_FIELDS
        self.unknown = 0
        """Fields that the tables do not have."""
        self.broken = False
        """Some message was not well-formed, or there was too much of it."""

    def read(
        self, message: str, data: bytes | memoryview, depth: int = 0, found: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """A message's fields by name, as far as it can be read; never raises. A message that comes in several parts is
        read on into what was `found` of it."""
        fields = self._tables[message]
        found = {} if found is None else found
        view, at = memoryview(data), 0
        while at < len(view):
            self._budget -= 1
            tag, at = _varint(view, at)
            if tag < 8 or self._budget <= 0 or depth > _MAX_DEPTH:
                self.broken = True
                return found
            size, value = {1: 8, 5: 4}.get(tag & 7, 0), -1
            if tag & 7 in (0, 2):
                value, at = _varint(view, at)
                size = value if tag & 7 == 2 else 0
            elif not size:
                value, size = -1, len(view) + 1
            if size > len(view) - at or (tag & 7 in (0, 2) and value < 0):
                self.broken = True
                return found
            self._put(found, fields.get(tag >> 3), tag & 7, value, view[at : at + size], depth)
            at += size
        return found

    def _put(
        self, found: dict[str, Any], field: tuple[str, str] | None, wire: int, value: int, data: memoryview, depth: int
    ) -> None:
        name, kind = field or ("", "")
        if kind == "number" and wire == 0:
            found[name] = value
        elif kind == "text" and wire == 2:
            found[name] = text(bytes(data))
        elif kind.rstrip("*") in self._tables and wire == 2:
            if kind.endswith("*"):
                found.setdefault(name, []).append(self.read(kind.rstrip("*"), data, depth + 1))
            else:
                found[name] = self.read(kind, data, depth + 1, found.get(name))
        else:
            self.unknown += 1


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(at, min(len(data), at + 10)):
        value |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place + 1
        shift += 7
    return -1, at
