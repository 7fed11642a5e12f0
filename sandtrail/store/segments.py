"""A closed run of frames: building its blob and manifest, reading it back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import zstandard

from sandtrail.errors import DamagedError, NotFoundError, StoreError
from sandtrail.store.frames import Frame, Stamp, frame_leaf
from sandtrail.store.layout import Layout, publish
from sandtrail.store.merkle import tree_root
from sandtrail.store.spool import MAX_BODY, Record, parse_records

__all__ = ["MAX_FRAMES", "SegmentBuilder", "read_frames", "read_records", "stored_segments"]

MAGIC = b"STseg1\n\0"
MAX_FRAMES = 16_384
MAX_RAW = 96 << 20
MAX_STREAMS = 256
_LIMIT = MAX_RAW + MAX_BODY + (1 << 20)


@dataclass(slots=True)
class _StreamCount:
    first: int
    frames: int = 0
    bytes: int = 0


@dataclass(slots=True)
class SegmentBuilder:
    """Collects records until the segment is full, then writes the blob and says what the manifest must say."""

    leaves: list[bytes] = field(default_factory=list)
    streams: dict[int, _StreamCount] = field(default_factory=dict)
    first: Stamp | None = None
    last: Stamp | None = None
    raw: int = 0
    _chunks: list[bytes] = field(default_factory=list)

    def add(self, record: Record, data: bytes) -> None:
        """Take one record and the bytes that it was parsed from."""
        leaves, kind, when = self.leaves, record.kind, record.when
        stream = record.stream
        for seq, payload in record.frames():
            leaves.append(frame_leaf(stream, seq, kind, when, payload))
        count = self.streams.get(stream)
        if count is None:
            count = self.streams[stream] = _StreamCount(record.seq)
        count.frames += len(record.lengths)
        count.bytes += len(record.payloads)
        self.first = self.first or when
        self.last = when
        self.raw += len(data)
        self._chunks.append(data)

    @property
    def full(self) -> bool:
        """Whether the segment must be closed before it takes more."""
        return len(self.leaves) >= MAX_FRAMES or self.raw >= MAX_RAW or len(self.streams) >= MAX_STREAMS

    def write(self, home: Path, number: int) -> dict[str, Any]:
        """Write the blob and return the manifest's fields about it. The blob is durable when this returns."""
        if self.first is None or self.last is None:
            raise StoreError("a segment needs at least one frame")
        blob = MAGIC + zstandard.ZstdCompressor(level=3).compress(b"".join(self._chunks))
        publish(Layout(home).segment(number), blob)
        return {
            "segment": number,
            "frames": len(self.leaves),
            "root": tree_root(self.leaves),
            "blob": sha256(blob).digest(),
            "size": len(blob),
            "raw": self.raw,
            "first": list(self.first),
            "last": list(self.last),
            "streams": {
                stream.to_bytes(8, "big").hex(): [count.first, count.frames, count.bytes]
                for stream, count in self.streams.items()
            },
        }


def read_records(home: Path, manifest: dict[str, Any]) -> list[Record]:
    """The records of a segment, its blob first held against the manifest.

    Raises NotFoundError when the blob is missing, DamagedError when it is not what was signed.
    """
    number = manifest["segment"]
    path = Layout(home).segment(number)
    try:
        blob = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"the blob of segment {number} is missing: {path}") from None
    if len(blob) != manifest["size"] or sha256(blob).digest() != manifest["blob"]:
        raise DamagedError(f"the blob of segment {number} is not the one that was signed: {path}")
    if not blob.startswith(MAGIC):
        raise DamagedError(f"segment {number} is of another format")
    try:
        raw = zstandard.ZstdDecompressor().decompress(blob[len(MAGIC) :], max_output_size=_LIMIT)
    except zstandard.ZstdError as error:
        raise DamagedError(f"segment {number} cannot be decompressed: {error}") from None
    records, end = [], 0
    for end, record in parse_records(raw, checked=True):  # noqa: B007
        records.append(record)
    if end != len(raw) or len(raw) != manifest["raw"]:
        raise DamagedError(f"segment {number} holds bytes that are no record")
    return records


def read_frames(home: Path, manifest: dict[str, Any]) -> Iterator[Frame]:
    """Every frame of a segment, in order. Raises as `read_records`."""
    number, place = manifest["segment"], 0
    for record in read_records(home, manifest):
        kind, stream = record.kind, record.stream
        real, mono, boot = record.when
        for seq, payload in record.frames():
            yield Frame(number, place, stream, seq, kind, real, mono, boot, payload)
            place += 1


def stored_segments(home: Path) -> dict[int, Path]:
    """Every segment blob on disk by its number, signed for or not."""
    folder = Layout(home).segments
    return {int(path.stem): path for path in folder.glob("*/*.seg") if path.stem.isdigit()}
