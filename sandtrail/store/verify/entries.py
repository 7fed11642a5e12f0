"""What `verify` tells from the entries alone, gone through once in their order: steps 6, 7, 10 and 11.

Remembered while going: how far each stream has come, which data keys a signed entry has erased or put under hold, which
segments one has removed. What grows with the log is 4 bytes a segment.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandtrail.errors import DamagedError
from sandtrail.store.manifest import Entry, decode_entry
from sandtrail.store.note import Verifier
from sandtrail.store.schema import check_entry
from sandtrail.store.verify.epochs import EpochChain
from sandtrail.store.verify.report import Affected, Report
from sandtrail.store.verify.time import Times
from sandtrail.store.verify.tree import SignedTree

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["History"]

_MAX_LOST = 1 << 20


class History:
    """Takes every entry in order, or is told that it is lost."""

    def __init__(
        self,
        report: Report,
        tree: SignedTree,
        identity: Verifier,
        first_epoch: Verifier | None,
        roots: Sequence[Certificate] = (),
    ) -> None:
        self._report = report
        self._tree = tree
        self.epochs = EpochChain(report, tree, identity, first_epoch)
        self.segments = 0
        self.spool: dict[str, int] = {}
        self.erased: dict[bytes, int] = {}
        self.kept: set[str] = set()
        self._retained: list[tuple[int, int]] = []
        self._held: dict[bytes, str] = {}
        # Whose a segment is: the place of its data key in `_names`; 0 where that is not known.
        self._owners = array("I")
        self._names: dict[bytes, int] = {}
        self._streams: dict[str, tuple[int, int, int]] = {}
        self._lost: tuple[int, int] | None = None
        self._losses = 0
        self._damage = -1
        self._times = Times(report, tree, identity, roots, self._remark)

    def lost(self, first: int, last: int) -> None:
        """Log entries `first` to `last` are not known; why has been reported."""
        self._lost = (self._lost[0] if self._lost else first, last)
        self._losses += 1
        self.epochs.lost()

    def entry(self, index: int, data: bytes) -> Entry | None:
        """Take one entry that the tree vouches for; None when it is malformed."""
        try:
            entry = decode_entry(index, data)
            check_entry(entry)
        except DamagedError as error:
            one = Affected(entries=(index, index))
            self._report.find(6, "entry-malformed", f"log entry {index}", f"it says nothing: {error}", one)
            self.lost(index, index)
            return None
        self.epochs.entry(entry)
        match entry.kind:
            case "segment":
                self._segment(entry)
            case "gap":
                self._gap(entry)
            case "hold" | "erase" | "retain":
                self._act(entry)
        self._times.entry(entry)
        if "spool" in entry.map:
            self.spool = entry.map["spool"]
        return entry

    # -- segments, streams ---------------------------------------------------------------------------------------------

    def _segment(self, entry: Entry) -> None:
        number, place = entry.map["segment"], f"log entry {entry.index}"
        if self._lost and number > self.segments:
            lost = Affected(segments=(self.segments, number - 1))
            what = f"log entries {self._lost[0]} to {self._lost[1]}, which would vouch for them, cannot be trusted"
            self._report.find(6, "segments-unvouched", f"segments {self.segments} to {number - 1}", what, lost)
        elif number != self.segments:
            what = f"segment {number} where segment {self.segments} belongs"
            segments = Affected(segments=(min(number, self.segments), max(number, self.segments)))
            self._report.find(6, "segments-out-of-order", place, what, segments)
        self._lost = None
        # Only segments in their order are counted here; a number out of it has been reported.
        self._owners.extend([0] * min(number - len(self._owners), _MAX_LOST))
        self._owners.append(self._names.setdefault(entry.map.get("key", b""), len(self._names) + 1))
        self.segments = number + 1
        self._report.segments += 1
        self._count(entry)

    def _count(self, entry: Entry) -> None:
        """Step 10."""
        for stream, (first, count, _) in entry.map["streams"].items():
            expected, seen, losses = self._streams.get(stream, (0, -1, 0))
            self._streams[stream] = (first + count, entry.index, self._losses)
            if first == expected or (first > expected and losses < self._losses):
                continue  # what is missing was in entries that have been spoken about
            place = f"segment {entry.map['segment']}"
            hole = f"stream {stream} goes from frame {expected} to {first}"
            if first > expected and self._damage > seen:
                self._remark(f"{place}: {hole}; log entry {self._damage} records that a spool was damaged before")
                continue
            kind = "frames-missing" if first > expected else "frames-repeated"
            affected = Affected(frames=abs(first - expected), streams=(stream,))
            self._report.find(10, kind, place, hole, affected)

    def _remark(self, text: str) -> None:
        if len(self._report.remarks) < 100:
            self._report.remarks.append(text)

    def _gap(self, entry: Entry) -> None:
        self._report.gaps += 1
        if "offset" in entry.map:
            self._damage = entry.index
        if "sha256" in entry.map:
            self.kept.add(f"{entry.map['file']}.{entry.map['offset']}")

    # -- acts ----------------------------------------------------------------------------------------------------------

    def _act(self, entry: Entry) -> None:
        if entry.kind == "retain":
            self._retain(entry)
            return
        for key in entry.map["keys"]:
            if entry.kind == "hold":
                if entry.map["on"]:
                    self._held[key] = entry.map["case"]
                else:
                    self._held.pop(key, None)
                continue
            if key in self._held:
                what = f"the data key {key.hex()} was erased while it was under hold ({self._held[key]})"
                self._report.find(6, "hold-broken", f"log entry {entry.index}", what)
            self.erased[key] = entry.index

    def _retain(self, entry: Entry) -> None:
        held = {self._names[key] for key in self._held if key in self._names}
        for first, last in entry.map["segments"]:
            self._retained.append((first, last))
            if held and any(whose in held for whose in self._owners[first : last + 1]):
                what = f"it removes segments among {first} to {last} that were under hold"
                self._report.find(6, "hold-broken", f"log entry {entry.index}", what, Affected(segments=(first, last)))

    def removed(self, segment: int) -> bool:
        """Whether a signed entry says that this segment's blob was removed; for when `finish` has been called."""
        at = bisect_right(self._retained, (segment, 1 << 64)) - 1
        return at >= 0 and self._retained[at][0] <= segment <= self._retained[at][1]

    def finish(self, note: bytes, pinned: bool) -> None:
        """All entries have been taken; `note` is the checkpoint over them, `pinned` as for the epochs."""
        self._retained = merged(self._retained)
        self.epochs.finish(note, pinned)
        self._times.finish()
        if self._lost and self._lost[1] == self._tree.checkpoint.size - 1:
            what = f"segments from {self.segments} on, if log entries {self._lost[0]} to {self._lost[1]} were of any"
            self._report.remarks.append(f"nothing vouches for {what}")


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers in ranges that are in order and do not touch."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
