"""Which fields an entry of each kind has, and of what shape (docs/log-format.md, "Entries")."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sandtrail.errors import DamagedError
from sandtrail.store.manifest import Entry

__all__ = ["check_entry"]

type _Check = Callable[[Any], bool]

_MAX_U64 = 1 << 64
_STREAM = re.compile("[0-9a-f]{16}")


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MAX_U64


def _signed(value: Any) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63


def _text(value: Any) -> bool:
    return type(value) is str


def _bytes(value: Any) -> bool:
    return type(value) is bytes


def _flag(value: Any) -> bool:
    return type(value) is bool


def _digest(value: Any) -> bool:
    return type(value) is bytes and len(value) == 32


def _key(value: Any) -> bool:
    return type(value) is bytes and len(value) == 16


def _keys(value: Any) -> bool:
    return type(value) is list and bool(value) and all(map(_key, value))


def _triple(value: Any) -> bool:
    return type(value) is list and len(value) == 3 and all(map(_number, value))


def _ranges(value: Any) -> bool:
    pairs = type(value) is list and all(type(pair) is list and len(pair) == 2 for pair in value)
    return pairs and all(_number(first) and _number(last) and first <= last for first, last in value)


def _streams(value: Any) -> bool:
    return type(value) is dict and all(
        type(name) is str and _STREAM.fullmatch(name) and _triple(counts) for name, counts in value.items()
    )


def _positions(value: Any) -> bool:
    return type(value) is dict and all(type(name) is str and _number(at) for name, at in value.items())


_ALWAYS: dict[str, _Check] = {"v": _number, "kind": _text, "run": _text, "boot": _text}
_SEGMENT: dict[str, _Check] = {
    "segment": _number,
    "frames": _number,
    "root": _digest,
    "blob": _digest,
    "size": _number,
    "raw": _number,
    "first": _triple,
    "last": _triple,
    "streams": _streams,
}
_START: dict[str, _Check] = {"at": _triple, "version": _text, "pid": _number, "first": _flag}
_AT: dict[str, _Check] = {"at": _triple}
_GAP: dict[str, _Check] = {"cause": _text, "from": _triple, "to": _triple}
_GAP_AS_NEEDED: dict[str, _Check] = {
    "from_boot": lambda value: value is None or _text(value),
    "file": _text,
    "offset": _number,
    "bytes": _number,
    "sha256": _digest,
    "key": _key,
    "spool": _positions,
}
_TIME: dict[str, _Check] = {"size": _number, "checkpoint": _bytes, "token": _bytes, "authority": _text}
# (fields that must be there, fields that may be there) by format and kind.
_FIELDS: dict[tuple[int, str], tuple[dict[str, _Check], dict[str, _Check]]] = {
    (1, "segment"): (_SEGMENT, {"epoch": _number, "spool": _positions}),
    (1, "start"): (_START, {}),
    (1, "stop"): (_AT, {}),
    (1, "heartbeat"): (_AT, {}),
    (1, "gap"): (_GAP, _GAP_AS_NEEDED),
    (2, "segment"): ({**_SEGMENT, "key": _key}, {"spool": _positions}),
    (2, "start"): (_START, {}),
    (2, "stop"): (_AT, {}),
    (2, "heartbeat"): (_AT, {}),
    (2, "gap"): (_GAP, _GAP_AS_NEEDED),
    (2, "clock"): ({"at": _triple, "before": _triple, "step_ns": _signed, "suspended_ns": _signed}, {}),
    (2, "epoch"): ({"at": _triple, "certificate": _text}, {}),
    (2, "time"): ({**_AT, **_TIME}, {}),
    (2, "hold"): ({"at": _triple, "keys": _keys, "on": _flag, "case": _text, "by": _text}, {}),
    (2, "erase"): ({"at": _triple, "keys": _keys, "reason": _text, "by": _text}, {}),
    (2, "retain"): ({"at": _triple, "segments": _ranges, "before": _number, "reason": _text, "by": _text}, {}),
}


def check_entry(entry: Entry) -> None:
    """Raise DamagedError when an entry lacks a field of its kind, or has one that does not belong to it or in it."""
    version = entry.map["v"]
    required, optional = _FIELDS[version, entry.kind]
    always = _ALWAYS if version == 1 else {**_ALWAYS, "epoch": _number}
    missing = (always.keys() | required.keys()) - entry.map.keys()
    if missing:
        raise DamagedError(f"it lacks {', '.join(sorted(missing))}")
    for name, value in entry.map.items():
        check = always.get(name) or required.get(name) or optional.get(name)
        if check is None:
            raise DamagedError(f"it has a field {name!r:.40} that no {entry.kind} has")
        if not check(value):
            raise DamagedError(f"its field {name!r} is malformed")
    if entry.kind == "gap" and ("sha256" in entry.map) and not {"file", "offset", "bytes"} <= entry.map.keys():
        raise DamagedError("it speaks of kept bytes and does not say which")
