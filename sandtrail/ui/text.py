"""Turns strings that a sandbox may have chosen into text that shows what is there and does nothing.

A character that has no ink, or that moves, hides or reorders its neighbours, is replaced by a visible escape: `\\x1b`
for an ASCII control character, `\\u202e` for a bidi override, `\\xff` for a byte that was not UTF-8.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

__all__ = ["as_text", "clock", "day", "duration", "offset", "pieces", "plain", "size", "spreadsheet_cell"]

_SUSPECT = re.compile(r"[^\x20-\x7e]+")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Printable by category, yet without ink: joiners, selectors, fillers, blank braille.
_INKLESS = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_MARKS_IN_A_ROW = 3
_FORMULA = ("=", "+", "-", "@", "|", "%", "＝", "＋", "－", "＠", "\\t", "\\r", "\\n")


def pieces(text: str, keep: str = "") -> Iterator[tuple[str, bool]]:
    """Yields (piece, escaped): runs of harmless text as they are, everything else as its escape.

    `keep` names control characters that the caller's layout gives a meaning to (`"\\n\\t"` in a text block).
    """
    at = 0
    for found in _SUSPECT.finditer(text):
        if found.start() > at:
            yield text[at : found.start()], False
        yield from _judge(found.group(), keep)
        at = found.end()
    if at < len(text):
        yield text[at:], False


def _judge(run: str, keep: str) -> Iterator[tuple[str, bool]]:
    clean = ""
    marks = 0
    for char in run:
        marks = marks + 1 if unicodedata.combining(char) else 0
        if char in keep or (char.isprintable() and marks <= _MARKS_IN_A_ROW and not _INKLESS.match(char)):
            clean += char
            continue
        if clean:
            yield clean, False
            clean = ""
        yield _escape(char), True
    if clean:
        yield clean, False


def _escape(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    point = ord(char)
    if point < 0x80:
        return f"\\x{point:02x}"
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def plain(value: object, limit: int | None = None, keep: str = "") -> str:
    """Returns `value` as harmless plain text of at most `limit` characters, for tooltips, labels and files."""
    text = as_text(value)
    short = text if limit is None or len(text) <= limit else text[: limit - 1] + "…"
    return "".join(piece for piece, _ in pieces(short, keep))


def as_text(value: object) -> str:
    """Returns a string as it is and anything else as compact JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def spreadsheet_cell(value: object) -> str:
    """Returns text that no spreadsheet takes for a formula: one that could be is led by an apostrophe."""
    text = plain(value)
    return f"'{text}" if text.lstrip(" '\"").startswith(_FORMULA) and not isinstance(value, int | float) else text


def clock(ns: int | None, digits: int = 3) -> str:
    """`12:03:22.123` UTC of nanoseconds since the epoch, with up to nine digits; a dash when unknown."""
    moment = _moment(ns)
    if moment is None or ns is None:
        return "–"
    return f"{moment:%H:%M:%S}" + (f".{ns % 10**9:09d}"[: digits + 1] if digits else "")


def day(ns: int | None) -> str:
    """`2026-03-01` in UTC; a dash when unknown."""
    moment = _moment(ns)
    return f"{moment:%Y-%m-%d}" if moment else "–"


def _moment(ns: int | None) -> datetime | None:
    if ns is None:
        return None
    try:
        return datetime.fromtimestamp(ns // 10**9, UTC)
    except (OverflowError, ValueError, OSError):  # a sandbox's clock may say anything
        return None


def offset(ns: int | None, start_ns: int | None) -> str:
    """`+12.345`, the seconds since the session's start."""
    return "" if ns is None or start_ns is None else f"{(ns - start_ns) / 1e9:+.3f}"


def duration(ns: int | None) -> str:
    """`1 h 02 min`, `3 min 20 s`, `18.2 s`."""
    if ns is None:
        return "–"
    seconds = ns / 1e9
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """`1,234 B`, `12.3 KiB`."""
    return f"{count:,} B" if count < 10_000 else f"{count / 1024:,.1f} KiB"


def json_lines(value: Any) -> str:
    """Returns indented JSON for reading."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)
