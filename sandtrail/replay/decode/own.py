"""What the recorder itself says: descriptors, notes, ends of streams, and the acts of the lifecycle."""

from __future__ import annotations

import json
from typing import Any, Final

import cbor2

from sandtrail.replay.decode.text import as_int, as_text, fit
from sandtrail.store.frames import Kind

__all__ = ["act_event", "read_map", "stream_event"]

Drafted = tuple[str, int, str, int | None, dict[str, Any]]
"""kind, time_ns (0: not told), object, result, detail."""

_MAX_NAME: Final = 40


def read_map(payload: bytes) -> dict[str, Any]:
    """The CBOR map of an OPEN, NOTE or CLOSE; empty where it is none."""
    try:
        found = cbor2.loads(payload)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError, MemoryError):
        return {}
    return {as_text(key, 200): value for key, value in found.items()} if isinstance(found, dict) else {}


def stream_event(kind: int, payload: bytes, source: str, stream: str) -> Drafted:
    """The event of an OPEN, NOTE or CLOSE."""
    told = read_map(payload)
    if not told:
        return "unknown", 0, "a frame of the recorder that is no CBOR map", None, {"stream": stream, "frame_kind": kind}
    detail = {**fit(told), "stream": stream}
    if kind == Kind.OPEN:
        return "stream.open", 0, source, None, detail
    if kind == Kind.CLOSE:
        return "stream.close", 0, as_text(told.get("reason"), 500), as_int(told.get("frames")), detail
    note = _name(told.get("note"))
    if note == "gap":
        return gap(told, source, stream)
    return f"note.{note}", 0, as_text(told.get("cause") or told.get("words"), 500), None, {**detail, "source": source}


def gap(told: dict[str, Any], source: str, stream: str) -> Drafted:
    """A gap that the recorder noted."""
    cause = as_text(told.get("cause"), 500)
    known = as_int(told.get("count"), -1)
    count = known if known >= 0 else None
    bounds = {key: told.get(key) for key in ("after_seq", "before_seq", "from_ns", "to_ns")}
    numbers = {key: as_int(value) if value is not None else None for key, value in bounds.items()}
    detail: dict[str, Any] = {"cause": cause, "count": count, **numbers, "stream": stream, "source": source}
    detail |= fit({key: told[key] for key in ("what", "bytes") if key in told}, 2000)
    return "gap", 0, cause, count, detail


def act_event(payload: bytes, prefix: str, *, cbor: bool) -> tuple[Drafted, str]:
    """(event, container) of an act: a lifecycle frame (JSON), or one of the recorder's own (CBOR)."""
    told: object
    if cbor:
        told = read_map(payload)
    else:
        try:
            told = json.loads(payload)
        except (ValueError, RecursionError):
            told = None
    if not isinstance(told, dict) or not told:
        reason = f"a {prefix} frame that cannot be read"
        detail = {"type": prefix, "reason": reason, "bytes": len(payload), "head": payload[:64].hex()}
        return ("unknown", 0, reason, None, detail), ""
    container = as_text(told.get("container"), 256)
    status = told.get("exit_status")
    result = status if isinstance(status, int) and not isinstance(status, bool) and abs(status) < 1 << 31 else None
    kind = f"{prefix}.{_name(told.get('act'))}"
    thing = container or as_text(told.get("sandbox"), 256)
    if kind == "lifecycle.runtime":
        thing = as_text(told.get("event"), 100)
    return (kind, 0, thing, result, fit(told)), container


def _name(value: object) -> str:
    text = as_text(value, _MAX_NAME).lower()
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "_" for char in text) or "unnamed"
