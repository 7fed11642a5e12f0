"""From frames of one segment down to a signed head: every proof is made on this way, and checked while it is made.

1. The checkpoint is signed by the log's key.
2. The segment's manifest is an entry of the signed log.
3. The segment's stored bytes are those in the manifest.
4. The frames are leaves of the segment's tree.
5. The manifest knows each frame's stream, and its number in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandtrail.errors import DamagedError, ErasedError, NotFoundError, StoreError
from sandtrail.store.frames import Frame, Ref
from sandtrail.store.leaves import SALT_SIZE
from sandtrail.store.log import read_checkpoint
from sandtrail.store.manifest import decode_entry
from sandtrail.store.merkle import hash_at, inclusion_paths, leaf_hash, root_from_path
from sandtrail.store.note import Checkpoint, open_checkpoint
from sandtrail.store.reader import LogReader
from sandtrail.store.segments import open_segment
from sandtrail.store.tiles import TileReader

__all__ = ["Check", "Walk", "while_it_grows"]

_LIVE_TRIES = 20


def while_it_grows[T](log: Path, attempt: Callable[[], T]) -> T:
    """What `attempt` returns. A recorder that is running replaces partial tiles as it signs: where it has signed anew
    in the meantime, an attempt that failed is made again.

    Raises as `attempt` does when the log has stayed as it was, and at once for what is not there.
    """
    for left in reversed(range(_LIVE_TRIES)):
        note = read_checkpoint(log)
        try:
            return attempt()
        except NotFoundError:
            raise
        except StoreError:
            if not left or read_checkpoint(log) == note:
                raise
    raise AssertionError


@dataclass(frozen=True, slots=True)
class Check:
    """One step and how it went."""

    step: str
    ok: bool
    detail: str


@dataclass(slots=True)
class Walk:
    """One way down, for the frames at `places` of a segment, and what was found on it.

    `note`: the head to end at. `index`, `entry`, `manifest`: the segment's entry; `outer` its path to the head's root.
    `count`: how many frames the segment has. Of each place: `frames`, `salts`, `leaves`, and in `inner` the path to the
    segment's root. `checks`: how each step that was taken went.
    """

    reader: LogReader
    segment: int
    places: Sequence[int]
    note: bytes
    checkpoint: Checkpoint = Checkpoint("", 0, b"")
    tiles: TileReader = field(init=False)
    index: int = -1
    entry: bytes = b""
    manifest: dict[str, Any] = field(default_factory=dict)
    outer: list[bytes] = field(default_factory=list)
    count: int = 0
    frames: list[Frame] = field(default_factory=list)
    salts: list[bytes] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    inner: list[list[bytes]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    _tree: bytes | bytearray = field(default=b"", repr=False)

    def go(self, steps: int = 5) -> Walk:
        """Take the steps, or the first of them.

        Raises DamagedError or another StoreError where one does not hold, which is in `checks` as well, NotFoundError
        where there is no such segment or frame, ErasedError where it can't be read any more.
        """
        for name, step in (
            ("The checkpoint is signed by the log's key", self._to_head),
            ("The segment's manifest is an entry of the signed log", self._to_manifest),
            ("The segment's stored bytes are those in the manifest", self._to_blob),
            ("The frame is a leaf of the segment's tree", self._to_leaves),
            ("The manifest knows the frame's stream and its number in it", self._to_places),
        )[:steps]:
            try:
                self.checks.append(Check(name, True, step()))
            except StoreError as error:
                self.checks.append(Check(name, False, str(error)))
                raise
        return self

    def _to_head(self) -> str:
        """Step 1."""
        if not self.note:
            raise DamagedError("there is no checkpoint")
        self.checkpoint = open_checkpoint(self.note, self.reader.verifier)
        return f"{self.checkpoint.size} entries, signed by {self.checkpoint.origin}"

    def _to_manifest(self) -> str:
        """Step 2."""
        self.index, found = self.reader.manifest(self.segment)
        size = self.checkpoint.size
        if self.index >= size:
            raise DamagedError(f"log entry {self.index} is not among those that are signed")
        self.tiles = TileReader(self.reader.home / "log", max(size, self.reader.size())).past(size)
        self.entry = self.tiles.entry(self.index)
        self.manifest = decode_entry(self.index, self.entry).map
        if self.manifest.get("segment") != found["segment"]:
            raise DamagedError(f"log entry {self.index} is not what it was a moment ago")
        self.outer = self.tiles.inclusion(self.index)
        if root_from_path(leaf_hash(self.entry), self.index, size, self.outer) != self.checkpoint.root:
            raise DamagedError(f"log entry {self.index} does not lead to the signed root; run: sandtrail verify")
        return f"entry {self.index}, {len(self.outer)} hashes to the root"

    def _to_blob(self) -> str:
        """Step 3."""
        try:
            segment = open_segment(self.reader.home, self.manifest)
        except ErasedError:
            raise
        except NotFoundError as error:  # a blob that a signed manifest names is missing
            raise DamagedError(str(error)) from error
        self.count = segment.count
        outside = next((place for place in self.places if not 0 <= place < self.count), None)
        if outside is not None:
            raise NotFoundError(
                f"segment {self.segment} has {self.count} frames, so there is no {self.segment}.{outside}"
            )
        drawn = segment.salts()
        self._tree = segment.leaves(drawn)
        self.frames = [segment.frame(Ref(self.segment, place)) for place in self.places]
        self.salts = [drawn[SALT_SIZE * place : SALT_SIZE * (place + 1)] for place in self.places]
        return f"{self.manifest['size']} bytes, SHA-256 {self.manifest['blob'].hex()}"

    def _to_leaves(self) -> str:
        """Step 4."""
        self.leaves = [hash_at(self._tree, place) for place in self.places]
        self.inner = inclusion_paths(self._tree, self.places)
        # All are paths of one tree, so that where one leads the others do.
        for place, leaf, path in zip(self.places[:1], self.leaves, self.inner, strict=False):
            if root_from_path(leaf, place, self.count, path) != self.manifest["root"]:
                raise DamagedError(f"the frames of segment {self.segment} do not lead to the root in its manifest")
        return f"leaf {self.places[0]} of {self.count}, {len(self.inner[0])} hashes to the segment's root"

    def _to_places(self) -> str:
        """Step 5."""
        for frame in self.frames:
            first, count, _ = self.manifest["streams"].get(f"{frame.stream:016x}", (0, 0, 0))
            if self.manifest["frames"] != self.count or not first <= frame.seq < first + count:
                raise DamagedError(f"frame {frame.ref} is not among those that its manifest counts")
        return f"stream {self.frames[0].stream:016x}, frame {self.frames[0].seq}"
