"""What a frame is, how it is named, and the Merkle leaf that commits to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import IntEnum
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

from sandtrail.errors import UsageError

__all__ = ["SALT_SIZE", "Frame", "Kind", "Ref", "Stamp", "frame_leaf", "frame_leaves", "stamp"]

SALT_SIZE = 32
_HEADS = {0: Struct("<c0sQQBQQQ"), SALT_SIZE: Struct(f"<c{SALT_SIZE}sQQBQQQ")}


class Kind(IntEnum):
    """What a frame holds: see docs/architecture.md, "Streams and frames"."""

    OPEN = 1
    DATA = 2
    NOTE = 3
    CLOSE = 4


class Stamp(NamedTuple):
    """The moment of receipt on three clocks, in nanoseconds.

    REALTIME can be stepped, MONOTONIC stands still in a suspend, BOOTTIME does not: together they show both.
    """

    realtime_ns: int
    monotonic_ns: int
    boottime_ns: int


def stamp() -> Stamp:
    """Read the three clocks now."""
    return Stamp(time.time_ns(), time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class Ref(NamedTuple):
    """The name of a frame: its segment and its place in it, written `12.345`."""

    segment: int
    place: int

    def __str__(self) -> str:
        return f"{self.segment}.{self.place}"

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Read `12.345`. Raises UsageError on anything else."""
        segment, dot, place = text.partition(".")
        if not (dot and segment.isascii() and segment.isdigit() and place.isascii() and place.isdigit()):
            raise UsageError(f"{text[:40]!r} is not a reference to evidence; write SEGMENT.INDEX, for example 12.345")
        if len(segment) > 15 or len(place) > 9:
            raise UsageError(f"{text[:40]!r} is larger than any segment or frame can be")
        return cls(int(segment), int(place))


class Frame(NamedTuple):
    """One message of a source, verbatim, with the times of its receipt."""

    segment: int
    place: int
    stream: int
    seq: int
    kind: int
    realtime_ns: int
    monotonic_ns: int
    boottime_ns: int
    payload: bytes

    @property
    def ref(self) -> str:
        """The frame's name, `12.345`."""
        return f"{self.segment}.{self.place}"


def frame_leaf(
    stream: int, seq: int, kind: int, when: tuple[int, int, int], payload: bytes, salt: bytes = b""
) -> bytes:
    """The RFC 6962 leaf hash of a frame: SHA-256(00 || salt || stream || seq || kind || three clocks || payload).

    All integers are little-endian, 64 bits wide but for the kind (8). Place, source, order and times are inside the
    leaf, so none of them can be changed without changing the segment's root; the salt (32 bytes, none in format 1)
    keeps a guessed payload from being confirmed once the data key is gone.
    """
    return frame_leaves(stream, seq, kind, when, (len(payload),), payload, salt)[0]


def frame_leaves(
    stream: int,
    seq: int,
    kind: int,
    when: tuple[int, int, int],
    lengths: Sequence[int],
    payloads: bytes,
    salts: bytes = b"",
) -> list[bytes]:
    """The leaves of frames that were received together, the first of which is `seq`; see `frame_leaf`.

    `payloads` and `salts` are the frames' own, one after the other. (By far the hottest loop of sealing and verifying:
    all that is the same for the frames is taken out of it, and hashing goes apart from asking for the digests.)
    """
    width = SALT_SIZE if salts else 0
    pack = _HEADS[width].pack
    messages = []
    at = mark = 0
    for length in lengths:
        end, past = at + length, mark + width
        messages.append(pack(b"\0", salts[mark:past], stream, seq, kind, *when) + payloads[at:end])
        at, mark, seq = end, past, seq + 1
    return [hashed.digest() for hashed in map(sha256, messages)]
