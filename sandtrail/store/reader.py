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

        Segments follow one another, so a binary search over the entry bundles finds the one; those beside it in its
        bundle are kept for the next call.
        """
        found = self._segments.get(segment)
        if found is None:
            size = self.size()
            low, high = 0, -(-size // WIDTH)
            while low < high:
                middle = (low + high) // 2
                at, first = self._first_segment(middle, high, size)
                if first is None or first > segment:
                    high = middle
                else:
                    low = at + 1
            if low:
                self._keep(low - 1, size)
            found = self._segments.get(segment)
        if found is None:
            raise NotFoundError(f"the log has no segment {segment}")
        return found["#index"], found

    def _first_segment(self, low: int, high: int, size: int) -> tuple[int, int | None]:
        """The first bundle from `low` to `high` (not included) that tells of a segment, and that segment."""
        for number in range(low, high):
            for offset, data in enumerate(self._bundle(number, size)):
                if _SEGMENT in data:  # spares decoding the others
                    entry = decode_entry(number * WIDTH + offset, data)
                    if entry.kind == "segment":
                        return number, entry.map["segment"]
        return high, None

    def _keep(self, number: int, size: int) -> None:
        if len(self._segments) > _MAX_KEPT:
            self._segments.clear()
        for entry in self.entries(number * WIDTH, min((number + 1) * WIDTH, size)):
            if entry.kind == "segment":
                self._segments[entry.map["segment"]] = {**entry.map, "#index": entry.index}

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
