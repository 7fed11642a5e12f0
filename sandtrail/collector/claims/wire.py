"""Where texts begin and end in a protobuf message, told by lengths alone: no schema, nothing interpreted.

A field with a length is a text, bytes, or a message; the encoding does not say which. Here it is a text when all of it
can be printed, a message when it consists of whole fields, and else a text again. So a text's end is known, and a
pattern that looks for words does not run on into the tag of the next field. Specification: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Final

__all__ = ["Span", "field_at", "texts"]

Span = tuple[int, int]

MAX_FIELDS: Final = 400_000
SOME: Final = 32
"""Fields, of whatever kind, that are read before others may have their turn."""
_UNPRINTABLE = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_FIXED: Final = {1: 8, 5: 4}


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(value, place behind it); a value of -1 where there is none."""
    value = shift = 0
    for place in range(at, min(end, at + 10)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    return -1, at


def field_at(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """(tag, begin, end) of the field with a length whose one-byte tag is at `at`; a tag of 0 where there is none."""
    if at >= end:
        return 0, at, at
    size, begin = varint(data, at + 1, end)
    return (data[at], begin, begin + size) if 0 <= size <= end - begin else (0, at, at)


def texts(data: bytes) -> Iterator[Span]:
    """The texts of a message, in order: everything in it that may hold words. A message that breaks off is read to its
    end; beyond `MAX_FIELDS` the rest is one text. Now and then an empty text comes: whoever takes
    them can let others have their turn, however deep the message is, and however much in it is none."""
    room = MAX_FIELDS
    unprintable = -1
    waiting: list[Span] = [(0, len(data))]
    while waiting:
        begin, end = waiting.pop()
        inner = None
        if unprintable < begin:
            # Looked for once, not once for each message that holds it: they may lie a million deep.
            found = _UNPRINTABLE.search(data, begin)
            unprintable = found.start() if found else len(data)
        if room > 0 and unprintable < end:
            inner = yield from _fields(data, begin, end, room, may_break=end == len(data))
        if not inner:  # no message, or numbers alone: a text may look like these, and is not passed over
            yield begin, end
            continue
        room -= len(inner)
        waiting.extend(reversed(inner))


def _fields(data: bytes, at: int, end: int, room: int, *, may_break: bool) -> Generator[Span, None, list[Span] | None]:
    """Returns the fields with a length; None where this is no message."""
    found: list[Span] = []
    begin, count = at, 0
    while at < end:
        if not count % SOME:
            yield begin, begin
        count += 1
        tag, place = varint(data, at, end)
        kind = tag & 7
        if tag < 8:
            return None
        if kind == 0:
            value, place = varint(data, place, end)
            if value < 0:
                return found if may_break and found else None
        elif kind == 2:
            size, place = varint(data, place, end)
            if size < 0 or place + size > end:
                # A body that was cut off ends in the middle of its last fields.
                return [*found, (place, end)] if may_break and (found or size > 0) else None
            if size:
                found.append((place, place + size))
            place += size
        elif kind in _FIXED:
            place += _FIXED[kind]
        else:
            return None
        if place > end:
            return found if may_break and found else None
        at = place
        if len(found) >= room:
            return [*found, (at, end)]
    return found
