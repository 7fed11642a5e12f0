"""A closed run of frames under one data key: building its blob and manifest, reading it back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import zstandard

from sandtrail.errors import DamagedError, NotFoundError, StoreError
from sandtrail.store.cipher import SEGMENT, new_nonce, salts, seal, unseal
from sandtrail.store.datakeys import DataKey, DataKeys
from sandtrail.store.frames import Frame, Ref, Stamp
from sandtrail.store.layout import Layout, listed
from sandtrail.store.leaves import record_leaves
from sandtrail.store.merkle import tree_root
from sandtrail.store.spool import MAX_BODY, Record, parse_records

__all__ = [
    "MAX_FRAMES",
    "MAX_RAW",
    "Segment",
    "SegmentBuilder",
    "check_blob",
    "open_blob",
    "open_segment",
    "read_frames",
    "read_records",
    "stored_segments",
]

MAX_FRAMES = 16_384
MAX_RAW = 96 << 20
MAX_STREAMS = 256
_MAGIC_1 = b"STseg1\n\0"
_LIMIT = MAX_RAW + MAX_BODY + (1 << 20)


@dataclass(slots=True)
class _StreamCount:
    first: int
    frames: int = 0
    bytes: int = 0


@dataclass(slots=True)
class SegmentBuilder:
    """Collects records until the segment is full, then seals the blob and says what the manifest must say."""

    key: DataKey
    frames: int = 0
    streams: dict[int, _StreamCount] = field(default_factory=dict)
    first: Stamp | None = None
    last: Stamp | None = None
    raw: int = 0
    _chunks: list[memoryview] = field(default_factory=list)
    _nonce: bytes = field(default_factory=new_nonce)

    def add(self, record: Record, data: memoryview) -> None:
        """Take one record and the bytes that it was parsed from, which must stay as they are."""
        frames, when = len(record.lengths), record.when
        self.frames += frames
        count = self.streams.get(record.stream)
        if count is None:
            count = self.streams[record.stream] = _StreamCount(record.seq)
        count.frames += frames
        count.bytes += len(record.payloads)
        self.first = self.first or when
        self.last = when
        self.raw += len(data)
        self._chunks.append(data)

    @property
    def full(self) -> bool:
        """Whether the segment must be closed before it takes more."""
        return self.frames >= MAX_FRAMES or self.raw >= MAX_RAW or len(self.streams) >= MAX_STREAMS

    def build(self, number: int) -> tuple[bytes, dict[str, Any]]:
        """The blob, and the manifest's fields about it. Raises StoreError when there is no frame in it."""
        if self.first is None or self.last is None:
            raise StoreError("a segment needs at least one frame")
        raw = b"".join(self._chunks)
        leaves = record_leaves(raw, salts(self.key, self._nonce, self.frames))
        packed = zstandard.ZstdCompressor(level=3).compress(raw)
        blob = seal(self.key, SEGMENT, self._nonce, number, packed)
        return blob, {
            "segment": number,
            "key": self.key.id,
            "frames": self.frames,
            "root": tree_root(leaves),
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


@dataclass(frozen=True, slots=True)
class Segment:
    """What a blob holds: its records, and in format 2 the nonce that its salts come from."""

    raw: bytes
    records: list[Record]
    key: DataKey | None
    nonce: bytes

    @property
    def count(self) -> int:
        """How many frames there are."""
        return sum(len(record.lengths) for record in self.records)

    def frame(self, ref: Ref) -> Frame:
        """One frame. Raises IndexError when there are not so many."""
        at = 0
        for record in self.records:
            count = len(record.lengths)
            if ref.place < at + count:
                seq, payload = next(islice(record.frames(), ref.place - at, None))
                return Frame(*ref, record.stream, seq, record.kind, *record.when, payload)
            at += count
        raise IndexError(ref.place)

    def salts(self) -> bytes:
        """The frames' salts, one after the other; none in format 1."""
        if self.key is None:
            return b""
        return salts(self.key, self.nonce, self.count)

    def leaves(self, drawn: bytes | None = None) -> bytes:
        """The leaves of the inner tree in one piece, in the order of the frames; `drawn`: what `salts` has given, where
        it was asked already."""
        return record_leaves(self.raw, self.salts() if drawn is None else drawn)


def check_blob(home: Path, manifest: dict[str, Any]) -> bytes:
    """The segment's blob, held against the manifest; needs no key.

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
    return blob


def open_segment(home: Path, manifest: dict[str, Any], keys: DataKeys | None = None) -> Segment:
    """A segment's content, its blob first held against the manifest.

    Raises NotFoundError when the blob is missing, ErasedError when its data key is, DamagedError when it is not what
    was signed. `keys`: where many are opened, so that each key is read once.
    """
    return open_blob(home, manifest, check_blob(home, manifest), keys)


def open_blob(home: Path, manifest: dict[str, Any], blob: bytes, keys: DataKeys | None = None) -> Segment:
    """The content of a blob that `check_blob` has given. Raises ErasedError and DamagedError as `open_segment`."""
    number = manifest["segment"]
    key, nonce = None, b""
    if "key" in manifest:
        key = (keys or DataKeys(home)).get(manifest["key"])
        nonce, packed = unseal(key, SEGMENT, number, blob)
    elif blob.startswith(_MAGIC_1):
        packed = blob[len(_MAGIC_1) :]
    else:
        raise DamagedError(f"segment {number} is of another format")
    try:
        if zstandard.frame_content_size(packed) > _LIMIT:
            raise DamagedError(f"segment {number} says that it is larger than any segment can be")
        raw = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_LIMIT)
    except zstandard.ZstdError as error:
        raise DamagedError(f"segment {number} cannot be decompressed: {error}") from None
    records, end = [], 0
    for end, record in parse_records(raw, checked=True):  # noqa: B007
        records.append(record)
    if end != len(raw) or len(raw) != manifest["raw"]:
        raise DamagedError(f"segment {number} holds bytes that are no record")
    return Segment(raw, records, key, nonce)


def read_records(home: Path, manifest: dict[str, Any], keys: DataKeys | None = None) -> list[Record]:
    """The records of a segment. Raises as `open_segment`."""
    return open_segment(home, manifest, keys).records


def read_frames(home: Path, manifest: dict[str, Any], keys: DataKeys | None = None) -> Iterator[Frame]:
    """Every frame of a segment, in order. Raises as `open_segment`."""
    number, place = manifest["segment"], 0
    for record in read_records(home, manifest, keys):
        kind, stream = record.kind, record.stream
        real, mono, boot = record.when
        for seq, payload in record.frames():
            yield Frame(number, place, stream, seq, kind, real, mono, boot, payload)
            place += 1


def stored_segments(home: Path) -> dict[int, Path]:
    """Every segment blob on disk by its number, signed for or not."""
    folder = Layout(home).segments
    paths = (path for thousand in listed(folder) for path in listed(thousand, ".seg"))
    return {int(path.stem): path for path in paths if path.stem.isdigit()}
