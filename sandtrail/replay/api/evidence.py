"""One frame for the API: its proof made now, its bytes, and its fields as a tree."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import cbor2
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from sandtrail.replay.api.body import body_of
from sandtrail.replay.decode.gvisor.schema import CLASSES, KINDS
from sandtrail.replay.decode.gvisor.stream import HEADER
from sandtrail.replay.decode.netlink import attributes, messages
from sandtrail.replay.decode.text import text
from sandtrail.store.evidence import Proof, prove, stream_descriptor
from sandtrail.store.frames import Frame, Kind
from sandtrail.store.reader import LogReader

__all__ = ["describe", "fields", "tree"]

WITH_BODIES = ("gateway", "claims")
MAX_HEX = 64 * 1024
MAX_TEXT = 20_000
MAX_ITEMS = 2_000
MAX_DEPTH = 40


def describe(reader: LogReader, ref: str) -> dict[str, Any]:
    """Everything about one frame but the events that it became. Raises NotFoundError, ErasedError, UsageError.

    `reader` keeps what it knows of the log; what it has read of frames is not used, so that the proof is of what is on
    disk now.
    """
    proof = prove(copy.copy(reader), ref)
    frame = proof.frame
    source = stream_descriptor(reader, frame.stream, frame.segment) if frame is not None else {}
    before, after = _neighbours(reader, frame) if frame is not None else (None, None)
    payload = frame.payload if frame is not None else b""
    told = str(source.get("source") or "")
    body = body_of(payload) if frame is not None and frame.kind == Kind.DATA and told in WITH_BODIES else None
    return {
        "ref": str(proof.ref),
        "frame": _frame(frame) if frame is not None else None,
        "source": tree(source),
        "raw_hex": payload[:MAX_HEX].hex(),
        "raw_truncated": len(payload) > MAX_HEX,
        "fields": fields(told, frame.kind, payload) if frame is not None else None,
        "body": body.as_dict() if body is not None else None,
        "position": {
            "segment": proof.ref.segment,
            "index": proof.ref.place,
            "log_index": proof.log_index,
            "log_size": proof.log_size,
            "origin": proof.origin,
        },
        "proof": _proof(proof),
        "verified": proof.verified,
        "checks": [{"step": c.step, "ok": c.ok, "detail": c.detail} for c in proof.checks],
        "previous": before,
        "next": after,
    }


def _frame(frame: Frame) -> dict[str, Any]:
    kind = Kind(frame.kind).name if frame.kind in set(Kind) else str(frame.kind)
    clocks = ("realtime_ns", "monotonic_ns", "boottime_ns")
    plain = {"stream": f"{frame.stream:016x}", "seq": frame.seq, "kind": kind, "size": len(frame.payload)}
    return plain | {name: getattr(frame, name) for name in clocks}


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "salt": proof.salt.hex(),
        "leaf": proof.leaf.hex(),
        "inner": [h.hex() for h in proof.inner],
        "inner_root": proof.inner_root.hex(),
        "outer": [h.hex() for h in proof.outer],
        "root": proof.root.hex(),
        "checkpoint": proof.checkpoint,
    }


def _neighbours(reader: LogReader, frame: Frame) -> tuple[str | None, str | None]:
    beside = [f for f in copy.copy(reader).segment_frames(frame.segment) if f.stream == frame.stream]
    at = next(place for place, f in enumerate(beside) if f.place == frame.place)
    return (
        beside[at - 1].ref if at else None,
        beside[at + 1].ref if at + 1 < len(beside) else None,
    )


def fields(source: str, kind: int, payload: bytes) -> Any:
    """A payload as a tree of named fields; what cannot be read says so. Never raises."""
    if kind != Kind.DATA or source == "collector":
        return _cbor(payload)
    if source == "gvisor":
        return _gvisor(payload)
    if source in ("netfilter", "conntrack"):
        return _netlink(payload)
    try:
        return tree(json.loads(payload))
    except (ValueError, RecursionError) as error:
        return {"problem": f"not JSON: {str(error)[:200]}"}


def _cbor(payload: bytes) -> Any:
    try:
        return tree(cbor2.loads(payload))
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        return {"problem": f"not CBOR: {str(error)[:200]}"}


def _gvisor(payload: bytes) -> Any:
    if len(payload) < HEADER.size:
        return {"problem": "shorter than a header"}
    size, kind, dropped = HEADER.unpack_from(payload)
    header = {
        "header_size": size,
        "message_type": kind,
        "name": KINDS.get(kind, ("unknown", ""))[0],
        "dropped": dropped,
    }
    cls = CLASSES.get(kind)
    if cls is None or not HEADER.size <= size <= len(payload):
        return {"header": header, "problem": "a message that is not known"}
    try:
        return {"header": header, "message": _message(cls.FromString(payload[size:]))}
    except (DecodeError, RecursionError):
        return {"header": header, "problem": "a message that is not well-formed"}


def _message(message: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None:
            out[field.name] = [_message(v) for v in value] if _repeats(field) else _message(value)
        else:
            out[field.name] = tree(list(value) if _repeats(field) else value)
    unknown = UnknownFieldSet(message)
    if len(unknown):
        first = [unknown[place] for place in range(min(len(unknown), 100))]
        out["unknown_fields"] = {str(f.field_number): _unknown(f.data) for f in first}
    return out


def _unknown(data: Any) -> Any:
    return tree(data) if isinstance(data, bytes | int | float) else "a group"


def _repeats(field: Any) -> bool:
    return bool(field.is_repeated)


def _netlink(payload: bytes) -> Any:
    out = []
    for message in list(messages(payload))[:MAX_ITEMS]:
        found = {str(number): value[:4096].hex() for number, value in attributes(message.body).items()}
        plain = {
            "subsystem": message.subsystem,
            "message": message.kind,
            "flags": message.flags,
            "family": message.family,
        }
        out.append({**plain, "attributes": found, **({"problem": message.problem} if message.problem else {})})
    return {"messages": out}


def tree(value: Any, depth: int = 0) -> Any:
    """Anything that JSON, CBOR or protobuf can hold, as JSON that any reader takes: capped, and valid Unicode."""
    if depth > MAX_DEPTH:
        return "… nested too deeply"
    if isinstance(value, dict):
        items = list(value.items())[:MAX_ITEMS]
        return {
            str(tree(key if isinstance(key, str | bytes) else str(key)))[:500]: tree(v, depth + 1) for key, v in items
        }
    if isinstance(value, list | tuple):
        cut = [f"… {len(value) - MAX_ITEMS} more"] if len(value) > MAX_ITEMS else []
        return [tree(v, depth + 1) for v in value[:MAX_ITEMS]] + cut
    if isinstance(value, bytes):
        return text(value, MAX_TEXT) + (f"… ({len(value)} bytes)" if len(value) > MAX_TEXT else "")
    if isinstance(value, str):
        return text(value[:MAX_TEXT].encode("utf-8", "backslashreplace"), MAX_TEXT * 12) + (
            f"… ({len(value)} characters)" if len(value) > MAX_TEXT else ""
        )
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 1 << 64 else hex(value)[:1000]
    return str(value)[:1000]
