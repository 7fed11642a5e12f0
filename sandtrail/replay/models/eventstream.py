"""Binary event streams of AWS, as Bedrock sends its streamed answers.

Spec: AWS event stream encoding (smithy.io, "Amazon Event Stream specification"). A message is a prelude of total
length, length of the headers and CRC-32 of these two, the headers, the payload, and CRC-32 of all before. A reader
refuses a message whose checksum differs; a recorder keeps it and says so.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["MEDIA_TYPE", "Event", "looks_like", "parse"]

MEDIA_TYPE = "application/vnd.amazon.eventstream"
MAX_MESSAGE = 24 * 1024 * 1024
"""As the specification and the vendor's client have it: 16 MiB of payload, beside headers."""
MAX_HEADERS = 128 * 1024
_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LEAST = _PRELUDE.size + _CRC.size
# Values of headers, by the byte that tells their type: how many bytes they take; the rest says its own length.
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _STRING = 6, 7
_NAME = re.compile(rb"[\x02-\x20]:[a-z]")


@dataclass(slots=True)
class Event:
    """One message: its headers by name as text, its payload, and what was wrong with it."""

    headers: dict[str, str]
    payload: bytes
    problems: list[str] = field(default_factory=list)
    whole: bool = True
    """Its last byte came."""


def looks_like(data: bytes) -> bool:
    """Whether the bytes begin as such a stream does: with a prelude whose checksum holds."""
    return _sound(data, 0)


def parse(data: bytes) -> Iterator[Event]:
    """The messages of a stream's bytes in order; the last as far as it goes, where the stream was cut.

    Lengths may be wrong: a recorder replaces credentials by marks of another length. The next message is then looked
    for; where there is none, what is left is the payload of the last.
    """
    place = 0
    room = 2 * len(data)  # what may be read in search of an end: lengths may lie so as to have the same read again
    while place < len(data):
        if len(data) - place < _PRELUDE.size:
            yield Event({}, b"", [f"ends in the prelude of a message, after {len(data) - place} bytes"], whole=False)
            return
        total, length, crc = _PRELUDE.unpack_from(data, place)
        problems = []
        if zlib.crc32(data[place : place + 8]) != crc:
            problems.append("checksum of a prelude does not match")
        if _LEAST + length <= total <= MAX_MESSAGE and length <= MAX_HEADERS:
            end = place + total
            if not _ends(data, end):
                room -= total
                if room < 0 or end > len(data) or not _intact(data[place:end]):
                    end = _next(data, place + 1)
            yield _message(data[place:end], total, length, problems, ended=end < len(data) or end - place >= total)
        else:
            problems.append(f"a message of {total} bytes with {length} bytes of headers cannot be")
            end = _next(data, place + 1)
            yield Event({}, data[place:end], problems, whole=False)
        place = end


def _sound(data: bytes, place: int) -> bool:
    """Whether a prelude whose checksum holds begins here."""
    if len(data) - place < _PRELUDE.size:
        return False
    total, headers, crc = _PRELUDE.unpack_from(data, place)
    return bool(zlib.crc32(data[place : place + 8]) == crc and _LEAST + headers <= total <= MAX_MESSAGE)


def _next(data: bytes, start: int) -> int:
    """Where the next message begins; the end of the data where none does."""
    # A prelude stands before its first header, and the services' own headers have a colon before their names.
    for match in _NAME.finditer(data, start + _PRELUDE.size):
        if _sound(data, match.start() - _PRELUDE.size):
            return match.start() - _PRELUDE.size
    return len(data)


def _ends(data: bytes, end: int) -> bool:
    """Whether a message can end here: another begins, or the data ends."""
    return end <= len(data) and (len(data) - end < _PRELUDE.size or _sound(data, end))


def _intact(message: bytes) -> bool:
    """Whether the message's own checksum holds."""
    end = len(message) - _CRC.size
    return bool(_CRC.unpack_from(message, end)[0] == zlib.crc32(message[:end]))


def _message(data: bytes, total: int, length: int, problems: list[str], ended: bool) -> Event:
    if not ended:
        problems.append(f"a message of {total} bytes was cut off after {len(data)}")
    elif len(data) != total:
        problems.append(f"a message of {total} bytes has {len(data)}")
    elif not _intact(data):
        problems.append("checksum of a message does not match")
    start = _PRELUDE.size + length
    headers = _headers(data[_PRELUDE.size : start], problems)
    return Event(headers, data[start : (len(data) if ended else total) - _CRC.size], problems, whole=ended)


def _headers(data: bytes, problems: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    place = 0
    while place < len(data):
        try:
            name, kind, value, place = _header(data, place)
        except (struct.error, IndexError, KeyError, ValueError) as error:
            problems.append(f"headers cannot be read further: {str(error)[:80] or type(error).__name__}")
            break
        if name in found:
            problems.append(f"the header {name[:40]!r} comes twice")
        found.setdefault(name, _shown(kind, value))
    return found


def _header(data: bytes, place: int) -> tuple[str, int, bytes, int]:
    """The header that begins here: name, type of value, its bytes, and where the next begins."""
    end = place + 1 + data[place]
    name = data[place + 1 : end].decode("utf-8", "replace")
    kind = data[end]
    end += 1
    if kind in (_BYTES, _STRING):
        (size,) = struct.unpack_from(">H", data, end)
        end += 2
    else:
        size = _FIXED[kind]
    if end + size > len(data):
        raise ValueError("a value that is cut off")
    return name, kind, data[end : end + size], end + size


def _shown(kind: int, value: bytes) -> str:
    if kind in (0, 1):
        return "true" if kind == 0 else "false"
    if kind == _STRING:
        return value.decode("utf-8", "replace")
    return value.hex() if kind in (_BYTES, 9) else str(int.from_bytes(value, "big", signed=True))
