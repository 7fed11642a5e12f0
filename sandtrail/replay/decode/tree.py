"""One frame as a tree of named fields, for a person who looks at the evidence itself."""

from __future__ import annotations

import json
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from sandtrail.replay.decode.gvisor.schema import CLASSES, KINDS
from sandtrail.replay.decode.gvisor.stream import HEADER
from sandtrail.replay.decode.netfilter import conntrack_events, nflog_events
from sandtrail.replay.decode.netlink import attributes, messages
from sandtrail.replay.decode.others import OTHERS, other_tree
from sandtrail.replay.decode.otlp import export_tree
from sandtrail.replay.decode.own import read_map
from sandtrail.replay.decode.sockaddr import read_sockaddr
from sandtrail.replay.decode.text import MAX_DETAIL, fit, text
from sandtrail.store.frames import Kind

__all__ = ["describe"]

_BINARY: Final = frozenset({"binary_sha256", "binary_sha1", "ip"})
_MAX_ITEMS: Final = 2000


def describe(source: str, kind: int, payload: bytes) -> dict[str, Any]:
    """The fields of a frame of `source`; empty where there are none to tell. Capped like an event's detail, and what
    was cut is said in `cut`. Never raises."""
    if kind != Kind.DATA:
        found = read_map(payload)
    elif source == "gvisor":
        found = _gvisor(payload)
    elif source in ("netfilter", "conntrack"):
        found = _netlink(source, payload)
    elif source == "collector":
        found = read_map(payload)
    elif source in OTHERS:
        found = other_tree(payload)
    else:
        try:
            loaded = json.loads(payload)
        except (ValueError, RecursionError):
            loaded = {}
        found = loaded if isinstance(loaded, dict) else {"value": loaded}
        found = export_tree(found) if source == "claims" else found
    tree: dict[str, Any] = fit(found, MAX_DETAIL * 4)
    return tree


def _gvisor(packet: bytes) -> dict[str, Any]:
    if len(packet) < HEADER.size:
        return {"problem": f"a packet of {len(packet)} bytes has no header"}
    size, kind, dropped = HEADER.unpack_from(packet)
    name, message = KINDS.get(kind, ("", ""))
    header: dict[str, Any] = {
        "header_size": size,
        "message_type": kind,
        "dropped_count": dropped,
        "name": name or "unknown",
    }
    if kind not in CLASSES or not HEADER.size <= size <= len(packet):
        return {"header": header, "problem": "not understood; the bytes are kept as they are"}
    if size > HEADER.size:
        header["more"] = packet[HEADER.size : size].hex()
    try:
        return {"header": header, message: _message(CLASSES[kind].FromString(packet[size:]))}
    except (DecodeError, RecursionError) as error:
        return {"header": header, "problem": f"the message is not well-formed: {type(error).__name__}"}


def _message(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.is_repeated:
            found[field.name] = [_value(field, item) for item in value[:_MAX_ITEMS]]
        else:
            found[field.name] = _value(field, value)
        if field.name == "address":
            found["address_read"] = read_sockaddr(value).name
    unknown = UnknownFieldSet(message)
    for index in range(min(len(unknown), _MAX_ITEMS)):
        field = unknown[index]
        data = field.data
        found[f"field {field.field_number}, unknown"] = data.hex() if isinstance(data, bytes) else str(data)
    return found


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _message(value)
    if isinstance(value, bytes):
        return value.hex() if field.name in _BINARY or field.name == "address" else text(value, MAX_DETAIL)
    return value


def _netlink(source: str, datagram: bytes) -> dict[str, Any]:
    listed = []
    for message in messages(datagram):
        head: dict[str, Any] = {"subsystem": message.subsystem, "message": message.kind, "flags": message.flags}
        if message.problem:
            head["problem"] = message.problem
        named = {f"attribute {number}": value.hex() for number, value in attributes(message.body).items()}
        listed.append({**head, "family": message.family, **named})
    if source == "netfilter":
        read = [
            {"sequence": seq, "kind": event[0], "object": event[2], **event[4]} for seq, event in nflog_events(datagram)
        ]
    else:
        read = [{"kind": event[0], "object": event[2], **event[4]} for event in conntrack_events(datagram)]
    return {"read": read, "messages": listed}
