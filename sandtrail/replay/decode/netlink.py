"""Netlink datagrams of the packet filter cut into messages and attributes (linux/netlink.h, nfnetlink.h)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

__all__ = ["Message", "attributes", "messages", "number"]

_MESSAGE: Final = Struct("<IHHII")  # the recorder's machine is little-endian: netlink speaks the host's order here
_ATTRIBUTE: Final = Struct("<HH")
_NFGEN: Final = 4
_FIRST_TYPE: Final = 0x10
"""Types below are netlink's own (done, error, noop)."""
_TYPE_MASK: Final = 0x3FFF


class Message(NamedTuple):
    """One message: subsystem and message of nfnetlink, flags, family, and the attributes' bytes."""

    subsystem: int
    kind: int
    flags: int
    family: int
    body: bytes
    problem: str = ""


def messages(data: bytes) -> Iterator[Message]:
    """The messages of a datagram; what cannot be cut ends the run with a message that has a `problem`."""
    at = 0
    while len(data) - at >= _MESSAGE.size:
        length, kind, flags, _, _ = _MESSAGE.unpack_from(data, at)
        if length < _MESSAGE.size or at + length > len(data):
            yield Message(0, 0, 0, 0, data[at:], f"a message of {length} bytes in {len(data) - at}")
            return
        body = data[at + _MESSAGE.size : at + length]
        if kind >= _FIRST_TYPE or kind == 0:
            if len(body) < _NFGEN:
                yield Message(kind >> 8, kind & 0xFF, flags, 0, body, "a message without its netfilter header")
            else:
                yield Message(kind >> 8, kind & 0xFF, flags, body[0], body[_NFGEN:])
        at += -(-length // 4) * 4
    if at < len(data):
        yield Message(0, 0, 0, 0, data[at:], f"{len(data) - at} bytes that are no message")


def attributes(data: bytes) -> dict[int, bytes]:
    """Type -> value; of a type that comes twice, the last. Stops at what is no attribute."""
    found: dict[int, bytes] = {}
    at = 0
    while len(data) - at >= 4:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > len(data):
            break
        found[kind & _TYPE_MASK] = data[at + 4 : at + length]
        at += -(-length // 4) * 4
    return found


def number(value: bytes | None) -> int:
    """A big-endian number of up to 64 bits; 0 where there is none."""
    return int.from_bytes(value[:8], "big") if value else 0
