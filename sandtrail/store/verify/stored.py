"""What became of the segments' blobs (steps 8 and 9 of `verify`): outcomes in, findings out.

A blob or a data key that is gone may have a signed reason further on in the log, so that is decided at the end.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import cbor2

from sandtrail.errors import DamagedError, ErasedError, StoreError
from sandtrail.store.cipher import DAMAGED, unseal
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.layout import Layout, listed, present
from sandtrail.store.manifest import Entry
from sandtrail.store.reader import open_log
from sandtrail.store.verify.report import Affected, Report
from sandtrail.store.verify.segment import Outcome
from sandtrail.store.verify.state import State
from sandtrail.store.verify.work import Done

if TYPE_CHECKING:
    from sandtrail.store.verify.entries import History

__all__ = ["Stored"]

_STEP = {"blob-missing": 8, "blob-damaged": 8, "data-key-missing": 9, "data-key-damaged": 9, "frames-differ": 9}
_ABSENT = ("blob-missing", "data-key-missing")
_MAX_LOOKED_UP = 1000
_MAX_ORDER = 1 << 20


class Stored:
    """Collects outcomes. Memory: 8 bytes for a segment of which something is gone."""

    def __init__(self, report: Report, layout: Layout, *, deep: bool) -> None:
        self._report = report
        self._layout = layout
        self._deep = deep
        self._keys = DataKeys(layout.home)
        self._absent: dict[tuple[str, bytes], array[int]] = {}
        self._unread: dict[str, tuple[int, bytes]] = {}

    def take(self, work: Iterable[Done], state: State) -> None:
        """Take what is done."""
        for done in work:
            state.done(done.label, done.outcomes)
            for outcome in done.outcomes:
                if not outcome.kind:
                    self._report.frames += outcome.frames
                elif outcome.kind in _ABSENT:
                    self._absent.setdefault((outcome.kind, outcome.key), array("Q")).append(outcome.segment)
                else:
                    self._find(outcome)

    def _find(self, bad: Outcome) -> None:
        whose = f" of {bad.sandbox!r}" if bad.sandbox else ""
        what = f"its {bad.frames} frames{whose} cannot be trusted: {bad.why}"
        one = (bad.segment, bad.segment)
        affected = Affected(segments=one, frames=bad.frames, streams=tuple(bad.streams), sandbox=bad.sandbox)
        self._report.find(_STEP[bad.kind], bad.kind, f"segment {bad.segment}", what, affected)

    def kept(self, entry: Entry) -> None:
        """Check the bytes of a spool that were no record and were kept; what is wrong with them is a finding."""
        name = f"{entry.map['file']}.{entry.map['offset']}"
        path = self._layout.damaged / name
        try:
            if "/" in name or "\0" in name:
                raise DamagedError("the entry names no such file")
            data = path.read_bytes()
            if sha256(data).digest() != entry.map["sha256"]:
                raise DamagedError("they are not the ones that were signed")
            if self._deep and "key" in entry.map:
                self._open_kept(entry, path, data)
        except DamagedError as error:
            what = f"the bytes that log entry {entry.index} speaks of cannot be trusted: {error}"
            self._report.find(8, "kept-damaged", path, what, Affected(entries=(entry.index, entry.index)))
        except OSError as error:
            what = f"the bytes that log entry {entry.index} speaks of are gone: {error.strerror}"
            self._report.find(8, "kept-missing", path, what, Affected(entries=(entry.index, entry.index)))

    def _open_kept(self, entry: Entry, path: Path, data: bytes) -> None:
        one = Affected(entries=(entry.index, entry.index))
        try:
            key = self._keys.get(entry.map["key"])
        except ErasedError:
            self._unread[str(path)] = entry.index, entry.map["key"]
        except DamagedError as error:
            self._report.find(9, "data-key-damaged", path, f"what was kept here cannot be read: {error}", one)
        else:
            unseal(key, DAMAGED, entry.map["offset"], data)

    def settle(self, history: History) -> None:
        """All entries have been taken: whatever is gone has a signed reason now, or never."""
        report = self._report
        for (kind, key), segments in self._absent.items():
            for segment in sorted(segments):
                if history.removed(segment):  # its data key goes too, once nothing is left under it
                    report.retained += 1
                elif kind == "data-key-missing" and key in history.erased:
                    report.erased += 1
                else:
                    self._find(self._look_up(Outcome(segment, 0, kind, key=key)))
        for place, (index, key) in self._unread.items():
            if key not in history.erased:
                what = f"the bytes that log entry {index} speaks of cannot be read: their data key is gone, unsigned"
                report.find(9, "data-key-missing", place, what, Affected(entries=(index, index)))
        self._erased(history)

    def _erased(self, history: History) -> None:
        """What the log says was erased is gone, or the one who writes the log is about to do it: an order is taken
        away only when it is done, so whoever looks for orders first and for keys then is never too early."""
        ordered = _ordered(self._layout)
        waiting = {history.erased[key] for key in ordered if key in history.erased}
        for key, entry in sorted(history.erased.items()):
            path = self._layout.data_keys / f"{key.hex()}.key"
            if not present(path):
                continue
            if entry in waiting:
                self._report.remarks.append(f"{path} is to be erased: the order waits for the recorder")
            else:
                what = f"log entry {entry} says that this data key was erased: what it keeps can still be read"
                self._report.find(9, "erasure-undone", path, what)

    def _look_up(self, bad: Outcome) -> Outcome:
        """What is lost with a segment; only for as many as are shown."""
        gone = "its blob" if bad.kind == "blob-missing" else "its data key"
        why = f"{gone} is gone, and no signed entry says why"
        if len(self._report.findings) > _MAX_LOOKED_UP:
            return bad._replace(why=why)
        try:
            manifest = open_log(self._layout.home).manifest(bad.segment)[1]
        except StoreError:
            return bad._replace(why=why)
        return bad._replace(why=why, frames=manifest["frames"], streams=tuple(manifest["streams"]))


def _ordered(layout: Layout) -> set[bytes]:
    """The data keys that orders which still wait want to have erased."""
    keys: set[bytes] = set()
    for path in listed(layout.acts, ".order"):
        try:
            with path.open("rb") as file:
                order = cbor2.loads(file.read(_MAX_ORDER))
            if order["act"] == "erase":
                keys.update(order["keys"])
        except Exception:  # noqa: BLE001  # gone meanwhile, or no order of ours: then it excuses nothing
            continue
    return keys
