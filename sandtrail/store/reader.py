"""Reading a log that somebody else may be writing to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2

from sandtrail.errors import DamagedError, NotFoundError, StoreError
from sandtrail.store.frames import Frame, Ref
from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import Layout
from sandtrail.store.log import read_checkpoint
from sandtrail.store.manifest import Entry, decode_entry
from sandtrail.store.note import Checkpoint, Verifier, open_checkpoint
from sandtrail.store.segments import read_frames
from sandtrail.store.tiles import WIDTH, TileReader

__all__ = ["LogReader", "open_log"]

_MAX_KEPT = 2048
_SEGMENT = cbor2.dumps("segment")


def open_log(home: Path) -> LogReader:
    """Open the log under `home` for reading. Raises NotFoundError when there is none yet."""
    return LogReader(home, load_verifier(home))


class LogReader:
    """Reads entries and frames under the latest checkpoint, whose signature is checked at each look.

    Safe beside the writer. It trusts tiles for navigation; whether all of it holds together is `verify`'s question.
    """

    def __init__(self, home: Path, verifier: Verifier) -> None:
        self.home = home
        self.verifier = verifier
        self._log = Layout(home).log
        self._segments: dict[int, dict[str, Any]] = {}
        self._asked = -1
        self._cached: tuple[int, list[Frame]] = (-1, [])

    def checkpoint(self) -> Checkpoint:
        """The latest checkpoint, its signature checked. Raises DamagedError when it does not hold."""
        note = read_checkpoint(self._log)
        if note is None:
            raise NotFoundError(f"the log under {self.home} has no checkpoint yet; nothing has been recorded")
        return open_checkpoint(note, self.verifier)

    def size(self) -> int:
        """How many entries the latest checkpoint covers; 0 where nothing has been signed yet."""
        return 0 if read_checkpoint(self._log) is None else self.checkpoint().size

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Entries `start` to `stop` (not included; default: all under the latest checkpoint)."""
        stop = self.size() if stop is None else stop
        # The writer removes a partial bundle once a newer checkpoint stands: read under a size until it is gone.
        for number in range(start // WIDTH, -(-stop // WIDTH)):
            for offset, data in enumerate(self._bundle(number, stop)):
                index = number * WIDTH + offset
                if start <= index < stop:
                    yield decode_entry(index, data)

    def _bundle(self, number: int, size: int) -> list[bytes]:
        while True:
            try:
                return TileReader(self._log, size).entries(number)
            except DamagedError:
                raise
            except StoreError:  # a missing partial is normal beside a writer
                newer = self.size()
                if newer <= size:
                    raise
                size = newer

    def manifest(self, segment: int) -> tuple[int, dict[str, Any]]:
        """(log index, manifest) of a segment. Raises NotFoundError when the log has no such segment.

        Segments follow one another, so a binary search over the entry bundles finds the one. Whoever asks for a second
        one of a bundle will ask for more: then all of them are kept for the next calls.
        """
        found = self._segments.get(segment)
        if found is None:
            size = self.size()
            low, high, start = 0, -(-size // WIDTH), 0
            while low < high:
                middle = (low + high) // 2
                first = self._next_segment(middle * WIDTH, high * WIDTH, size)
                if first is None or first.map["segment"] > segment:
                    high = middle
                else:
                    low = first.index // WIDTH + 1
                    start = first.index + segment - first.map["segment"]
            self._keep(start, segment, size)
            found = self._segments.get(segment)
        if found is None:
            raise NotFoundError(f"the log has no segment {segment}")
        return found["#index"], found

    def _next_segment(self, start: int, stop: int, size: int) -> Entry | None:
        """The first entry of a segment from `start` to `stop` (not included)."""
        for number in range(start // WIDTH, -(-min(stop, size) // WIDTH)):
            for index, data in enumerate(self._bundle(number, size), number * WIDTH):
                if index >= start and _SEGMENT in data:  # spares decoding the others
                    entry = decode_entry(index, data)
                    if entry.kind == "segment":
                        return entry
        return None

    def _keep(self, start: int, segment: int, size: int) -> None:
        """Keep the manifest of a segment, which cannot come before `start`, or all of its bundle."""
        number = start // WIDTH
        if len(self._segments) > _MAX_KEPT:
            self._segments.clear()
        if self._asked == number:
            for entry in self.entries(number * WIDTH, min((number + 1) * WIDTH, size)):
                if entry.kind == "segment":
                    self._segments[entry.map["segment"]] = {**entry.map, "#index": entry.index}
        while segment not in self._segments:
            found = self._next_segment(start, (number + 1) * WIDTH, size)
            if found is None or found.map["segment"] > segment:
                break
            self._segments[found.map["segment"]] = {**found.map, "#index": found.index}
            start = found.index + 1
        self._asked = number

    def frames(self, segment: int) -> Iterator[Frame]:
        """The frames of a segment, its blob held against the signed manifest."""
        return read_frames(self.home, self.manifest(segment)[1])

    def frame(self, ref: str | Ref) -> Frame:
        """One frame. Raises NotFoundError when there is no such frame, DamagedError when its segment is damaged."""
        segment, place = Ref.parse(ref) if isinstance(ref, str) else ref
        frames = self.segment_frames(segment)
        if place >= len(frames):
            raise NotFoundError(f"segment {segment} has {len(frames)} frames, so there is no {segment}.{place}")
        return frames[place]

    def segment_frames(self, segment: int) -> list[Frame]:
        """All frames of a segment; the last one asked for is kept."""
        number, frames = self._cached
        if number != segment:
            frames = list(self.frames(segment))
            self._cached = (segment, frames)
        return frames
