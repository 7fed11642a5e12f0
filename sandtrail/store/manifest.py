"""What a log entry says, in deterministic CBOR (RFC 8949 section 4.2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cbor2

from sandtrail.errors import DamagedError

__all__ = ["ENTRY_KINDS", "FORMAT", "Entry", "boot_id", "decode_entry", "encode_entry"]

FORMAT = 2
_FIRST_KINDS = frozenset({"segment", "start", "stop", "heartbeat", "gap"})
ENTRY_KINDS = _FIRST_KINDS | {"clock", "epoch", "time", "hold", "erase", "retain"}
_KINDS = {1: _FIRST_KINDS, FORMAT: ENTRY_KINDS}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log: its index, its kind, and everything it says."""

    index: int
    kind: str
    map: dict[str, Any]


def encode_entry(kind: str, fields: Mapping[str, Any]) -> bytes:
    """The bytes of an entry."""
    return cbor2.dumps({"v": FORMAT, "kind": kind, **fields}, canonical=True)


def decode_entry(index: int, data: bytes) -> Entry:
    """Read an entry. Raises DamagedError when it is not one of ours, byte for byte."""
    try:
        value = cbor2.loads(data)
        canonical = cbor2.dumps(value, canonical=True) == data
    except Exception as error:  # noqa: BLE001  # whatever the decoder stumbles over in changed bytes, they are damaged
        raise DamagedError(f"log entry {index} is not CBOR: {error}") from None
    kind, version = (value.get("kind"), value.get("v")) if isinstance(value, dict) else (None, None)
    if not (canonical and type(version) is int and isinstance(kind, str) and kind in _KINDS.get(version, ())):
        raise DamagedError(f"log entry {index} is not an entry of format 1 to {FORMAT}")
    return Entry(index, kind, value)


def boot_id() -> str:
    """The kernel's name for this boot; MONOTONIC and BOOTTIME compare only within one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
