"""A round of sealing: the open segments, one for each data key, that are closed together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cbor2

from sandtrail.errors import DamagedError, ErasedError
from sandtrail.store.datakeys import DataKey, DataKeys
from sandtrail.store.frames import Kind, Stamp
from sandtrail.store.layout import Layout, publish
from sandtrail.store.position import backwards
from sandtrail.store.reader import LogReader
from sandtrail.store.segments import MAX_RAW, SegmentBuilder
from sandtrail.store.spool import Record

__all__ = ["Owners", "Round"]

_MAX_SEGMENTS = 256
_MAX_NAME = 200


class Owners:
    """Whose frames a stream carries, and so which data key keeps them."""

    def __init__(self, keys: DataKeys, reader: LogReader) -> None:
        self._keys = keys
        self._reader = reader
        self._streams: dict[int, DataKey] = {}

    def key(self, record: Record) -> DataKey:
        """The data key for a record's frames: its sandbox's, or the node's own for a stream of no sandbox."""
        found = self._streams.get(record.stream)
        if found is None:
            found = self._described(record) if record.kind == Kind.OPEN else self._remembered(record.stream)
            self._streams[record.stream] = found
        if record.kind == Kind.CLOSE:
            del self._streams[record.stream]
        return found

    def _described(self, record: Record) -> DataKey:
        try:
            descriptor = cbor2.loads(next(record.frames())[1])
            sandbox, session = (str(descriptor.get(name) or "")[:_MAX_NAME] for name in ("sandbox", "session"))
        except Exception:  # noqa: BLE001  # a stream that describes itself wrongly is kept like one that can't be told
            return self._keys.for_sandbox(f"stream {record.stream:016x}", "")
        return self._keys.for_sandbox(sandbox, session)

    def _remembered(self, stream: int) -> DataKey:
        """The key of a stream that began before we did: the newest segment with frames of it names it."""
        name = f"{stream:016x}"
        for entry in backwards(self._reader):
            if entry.kind == "segment" and name in entry.map["streams"] and "key" in entry.map:
                try:
                    return self._keys.get(entry.map["key"])
                except (ErasedError, DamagedError):
                    break
        return self._keys.for_sandbox(f"stream {name}", "")

    def needs(self, ident: bytes) -> bool:
        """Whether a stream that is open keeps its frames under this key."""
        return any(key.id == ident for key in self._streams.values())

    def forget(self, ident: bytes) -> None:
        """A key is to be destroyed; should its streams go on, they get a new one."""
        for stream, key in list(self._streams.items()):
            if key.id == ident:
                self._streams[stream] = self._keys.make(key.sandbox, key.session)


class Round:
    """Open segments. Records go to the segment of their data key; all segments are closed together."""

    def __init__(self) -> None:
        self._segments: dict[bytes, SegmentBuilder] = {}
        self._raw = 0
        self.opened_at = 0.0
        self.urgent = False
        self.last: Stamp | None = None

    def __bool__(self) -> bool:
        return bool(self._segments)

    def add(self, key: DataKey, record: Record, data: memoryview) -> bool:
        """Take a record and the bytes that it was parsed from; returns whether the round is full."""
        segment = self._segments.get(key.id)
        if segment is None:
            if not self._segments:
                self.opened_at = time.monotonic()
            segment = self._segments[key.id] = SegmentBuilder(key)
        segment.add(record, data)
        self._raw += len(data)
        self.urgent = self.urgent or record.urgent
        self.last = record.when
        return segment.full or self._raw >= MAX_RAW or len(self._segments) >= _MAX_SEGMENTS

    def write(self, home: Path, number: int) -> list[dict[str, Any]]:
        """Write the blobs, the first as segment `number`; returns what their manifests must say of them.

        The blobs are durable when this returns.
        """
        layout = Layout(home)
        manifests = []
        for at, segment in enumerate(self._segments.values(), number):
            blob, fields = segment.build(at)
            publish(layout.segment(at), blob)
            manifests.append(fields)
        return manifests
