"""What the readers of other people's records share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sandtrail.replay.decode.text import as_text

__all__ = ["Drafted", "mapping", "number", "time_ns", "unknown"]

Drafted = tuple[str, int, str, int | None, dict[str, Any]]
"""kind, time_ns (0: not told), object, result, detail."""
_MAX: Final = 1 << 63


def unknown(source: str, reason: str, data: bytes) -> Drafted:
    """A record that was not understood."""
    return "unknown", 0, reason, None, {"type": source, "reason": reason, "bytes": len(data), "head": data[:64].hex()}


def mapping(value: object) -> Mapping[str, Any]:
    """A map, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def number(value: object) -> int | None:
    """A whole number, also one that JSON wrote as text or with a fraction; None for anything else."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None
    if isinstance(value, float):
        value = int(value) if abs(value) < _MAX else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX else None


def time_ns(value: object) -> int:
    """A time in RFC 3339, up to nanoseconds -> nanoseconds since 1970; 0 for anything else."""
    text = as_text(value, 40)
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        at = datetime.fromisoformat(whole + rest[len(digits) :] if dot else text)
    except ValueError:
        return 0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    nanoseconds = int(digits[:9].ljust(9, "0")) if digits.isascii() and digits else 0
    found = int(at.timestamp()) * 1_000_000_000 + nanoseconds
    return found if 0 < found < _MAX else 0
