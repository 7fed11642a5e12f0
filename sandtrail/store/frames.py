"""What a frame is and how it is named."""

from __future__ import annotations

import time
from enum import IntEnum
from typing import NamedTuple

from sandtrail.errors import UsageError

__all__ = ["Frame", "Kind", "Ref", "Stamp", "stamp"]


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
