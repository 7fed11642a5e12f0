"""Bytes out of a sandbox as text that is safe to keep: valid Unicode, capped, and what was cut is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["MAX_DETAIL", "MAX_PATH", "as_int", "as_text", "clean", "fit", "quote", "text", "to_json"]

MAX_PATH: Final = 8192
"""Bytes of one path or word; Linux' own limit for a path is 4096."""
MAX_DETAIL: Final = 64 << 10
"""About how many characters an event's detail may have."""
_MAX_DEPTH: Final = 12

# NaN and infinities would not be JSON, and nothing that is kept here refers to itself.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode
quote = json.encoder.encode_basestring
"""A string as JSON, quotes included."""


def text(data: bytes, limit: int = MAX_PATH) -> str:
    """Bytes -> text. What is not UTF-8, and NUL, is written `\\xNN`."""
    found = (data if len(data) <= limit else data[:limit]).decode("utf-8", "backslashreplace")
    return found.replace("\0", "\\x00") if "\0" in found else found


def clean(value: str, limit: int = MAX_PATH) -> str:
    """Text that came from JSON or CBOR -> text without lone surrogates and NUL."""
    if value.isascii() and len(value) <= limit:
        return value.replace("\0", "\\x00") if "\0" in value else value
    return text(value[:limit].encode("utf-8", "backslashreplace"), limit * 12)


def as_text(value: object, limit: int = MAX_PATH) -> str:
    """Anything that came from JSON or CBOR -> text; "" for None."""
    if isinstance(value, str):
        return clean(value, limit)
    if isinstance(value, bytes):
        return text(value, limit)
    return "" if value is None else clean(repr(value) if isinstance(value, list | dict) else str(value), limit)


def as_int(value: object, default: int = 0) -> int:
    """An integer that fits 64 bits, else `default`."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else default


def to_json(value: Mapping[str, Any]) -> str:
    """A detail as JSON; it is the caller's to have made it of clean text. Beyond `MAX_DETAIL` it is fitted."""
    found = _encode(value)
    return found if len(found) <= MAX_DETAIL else _encode(fit(value))


def fit(value: object, room: int = MAX_DETAIL) -> Any:
    """Something that came from JSON or CBOR -> something that JSON can say in about `room` characters.

    Strings, lists and maps are cut, bytes become hex; a map that lost anything has `cut` with the true sizes.
    """
    return _Fitter(room).take(value, 0)


class _Fitter:
    def __init__(self, room: int) -> None:
        self.room = room

    def take(self, value: object, depth: int) -> Any:
        if isinstance(value, bytes):
            value = value[: max(self.room // 2, 0)].hex() if len(value) * 2 > self.room else value.hex()
        if isinstance(value, str):
            kept = clean(value, max(min(self.room, 1 << 16), 16))
            self.room -= len(kept) + 3
            return kept
        self.room -= 8
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if value.bit_length() <= 64 else clean(hex(value), 200)
        if isinstance(value, float):
            return value if value - value == 0 else str(value)
        if depth >= _MAX_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            return self._map(value, depth)
        if isinstance(value, list | tuple):
            kept_items = []
            for item in value:
                if self.room <= 0:
                    break
                kept_items.append(self.take(item, depth + 1))
            return kept_items
        return clean(str(value), 200)

    def _map(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        cut: dict[str, int] = {}
        for index, (key, item) in enumerate(value.items()):
            if self.room <= 0:
                cut["#"] = len(value) - index
                break
            name = as_text(key, 200)
            self.room -= len(name) + 3
            found[name] = kept = self.take(item, depth + 1)
            if isinstance(item, str | bytes | list | tuple) and _size(kept) < len(item):
                cut[name] = len(item)
        if cut:
            found["cut"] = {**found["cut"], **cut} if isinstance(found.get("cut"), dict) else cut
        return found


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | list) else 0
