"""What an entry of a cluster's log says, in deterministic CBOR; docs/log-format.md has the table.

An entry has exactly the fields of its kind, and each field exactly one form, so that one statement has one encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cbor2

from sandtrail.errors import DamagedError
from sandtrail.store.frames import Stamp, stamp
from sandtrail.store.manifest import boot_id

__all__ = ["FORMAT", "MAX_NOTE", "MAX_PROOF", "ClusterEntry", "decode_entry", "encode_entry"]

FORMAT = 1
MAX_PROOF = 63
# Two notes and a proof fit into one entry, and a note of this size has room for seven cosignatures by ML-DSA-44.
MAX_NOTE = 24 * 1024
_MAX_TEXT = 2048


@dataclass(frozen=True, slots=True)
class ClusterEntry:
    """One entry: its index, its kind, when it was written, and everything that it says."""

    index: int
    kind: str
    at: Stamp
    map: dict[str, Any]


def encode_entry(kind: str, **fields: Any) -> bytes:
    """The bytes of an entry that is written now. `fields` are those of its kind."""
    facts = {"v": FORMAT, "kind": kind, "at": list(stamp()), "boot": boot_id(), **fields}
    return cbor2.dumps(facts, canonical=True)


def decode_entry(index: int, data: bytes) -> ClusterEntry:
    """Read an entry. Raises DamagedError when it is not one, byte for byte."""
    try:
        value = cbor2.loads(data)
        canonical = cbor2.dumps(value, canonical=True) == data
    except Exception as error:  # noqa: BLE001  # whatever the decoder stumbles over in changed bytes, they are damaged
        raise DamagedError(f"entry {index} of the cluster's log is not CBOR: {error}") from None
    if not (canonical and isinstance(value, dict) and _is_entry(value)):
        raise DamagedError(f"entry {index} of the cluster's log is not an entry of format {FORMAT}")
    return ClusterEntry(index, value["kind"], Stamp(*value["at"]), value)


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _stamp(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_number, value))


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _note(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) <= MAX_NOTE


def _proof(value: Any) -> bool:
    hashes = isinstance(value, list) and all(isinstance(one, bytes) and len(one) == 32 for one in value)
    return hashes and len(value) <= MAX_PROOF


def _text_or_nothing(value: Any) -> bool:
    return value is None or _text(value)


_Shape = Mapping[str, Callable[[Any], bool]]
_COMMON: _Shape = {
    "v": lambda value: type(value) is int and value == FORMAT,
    "kind": _text,
    "at": _stamp,
    "boot": _text,
}
_SHAPES: Mapping[str, _Shape] = {
    "node": {"origin": _text, "identity": _text, "first_epoch": _text_or_nothing, "retired": _flag},
    "checkpoint": {"origin": _text, "old": _number, "proof": _proof, "note": _note},
    "silence": {"origin": _text, "since": _stamp, "size": _number},
    "equivocation": {"origin": _text, "held": _note, "note": _note},
    "refused": {"origin": _text, "old": _number, "proof": _proof, "note": _note},
}


def _is_entry(value: dict[Any, Any]) -> bool:
    kind = value.get("kind")
    shape = {**_COMMON, **_SHAPES.get(kind, {})} if isinstance(kind, str) and kind in _SHAPES else {}
    return bool(shape) and value.keys() == shape.keys() and all(fits(value[key]) for key, fits in shape.items())
