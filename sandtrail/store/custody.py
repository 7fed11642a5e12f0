"""Custody of the evidence: erasure, retention and legal hold, as the one who writes the log carries them out.

Each is signed first and done afterwards, so that whatever is missing has an entry that says why.

    {"act": "hold", "keys": [data key ids], "on": bool, "case", "by"}
    {"act": "erase", "keys": [data key ids], "reason", "by"}
    {"act": "retain", "before": realtime in ns, "reason", "by"}
    {"act": "epoch"}    {"act": "time", "size", "checkpoint", "token", "authority"}
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandtrail.errors import UsageError
from sandtrail.store.frames import Kind, stamp
from sandtrail.store.layout import Layout, sync_folder
from sandtrail.store.manifest import Entry
from sandtrail.store.position import has_writer, spools
from sandtrail.store.reader import LogReader
from sandtrail.store.spool import MAGIC, parse_records

if TYPE_CHECKING:
    from sandtrail.store.sealer import Sealer

__all__ = ["Custody", "Retention", "carry_out", "held", "plan_retention", "removed"]

_MAX_TEXT = 2000
_MAX_KEYS = 1000
_MAX_RANGES = 2000
_ZEROS = bytes(1 << 20)


@dataclass(slots=True)
class Custody:
    """What a log says of custody, gathered entry by entry, from the first to the last.

    `held`: the data keys under legal hold, each with its case. `removed`: the ranges of segments, first and last, whose
    blobs are removed. `erasures`: index and data keys of each erasure. `kept`: bytes of a spool that were kept because
    they were no record: until when (REALTIME in ns), and the data key.
    """

    held: dict[bytes, str] = field(default_factory=dict)
    removed: list[tuple[int, int]] = field(default_factory=list)
    erasures: list[tuple[int, list[bytes]]] = field(default_factory=list)
    kept: list[tuple[int, bytes]] = field(default_factory=list)

    def see(self, entry: Entry) -> None:
        """Take in the next entry."""
        said = entry.map
        match entry.kind:
            case "hold" if said["on"]:
                self.held.update(dict.fromkeys(said["keys"], str(said["case"])))
            case "hold":
                for key in said["keys"]:
                    self.held.pop(key, None)
            case "retain":
                self.removed += [(first, last) for first, last in said["segments"]]
            case "erase":
                self.erasures.append((entry.index, said["keys"]))
            case "gap" if "key" in said:
                self.kept.append((said["to"][0], said["key"]))

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Custody:
        """What all these entries say."""
        found = cls()
        for entry in entries:
            found.see(entry)
        return found


def held(entries: Iterable[Entry]) -> dict[bytes, str]:
    """The data keys under legal hold, each with its case."""
    return Custody.of(entries).held


def removed(entries: Iterable[Entry]) -> list[tuple[int, int]]:
    """The ranges of segments, first and last, whose blobs a signed entry says are removed."""
    return Custody.of(entries).removed


def carry_out(sealer: Sealer, act: dict[str, Any]) -> dict[str, Any]:
    """Do what an order says; returns what became of it. Raises UsageError when it has to be refused."""
    try:
        match act["act"]:
            case "hold":
                return _hold(sealer, act)
            case "erase":
                return _erase(sealer, act)
            case "retain":
                return _retain(sealer, act)
            case "time":
                facts = {name: act[name] for name in ("size", "checkpoint", "token", "authority")}
                return {"entry": sealer.record("time", at=list(stamp()), **facts)}
            case _:
                return {"epoch": sealer.begin_epoch()}
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the order lacks something or has it in a wrong form: {error!r:.200}") from None


def _keys(act: dict[str, Any]) -> list[bytes]:
    keys = [bytes(key) for key in act["keys"]]
    if not keys or len(keys) > _MAX_KEYS or any(len(key) != 16 for key in keys):
        raise UsageError(f"an order names 1 to {_MAX_KEYS} data keys of 16 bytes")
    return keys


def _text(act: dict[str, Any], name: str) -> str:
    return str(act.get(name, ""))[:_MAX_TEXT]


def _hold(sealer: Sealer, act: dict[str, Any]) -> dict[str, Any]:
    keys = _keys(act)
    for key in keys:
        sealer.keys.get(key)
    texts = {"case": _text(act, "case"), "by": _text(act, "by")}
    return {"entry": sealer.record("hold", at=list(stamp()), keys=keys, on=bool(act["on"]), **texts)}


def _erase(sealer: Sealer, act: dict[str, Any]) -> dict[str, Any]:
    keys = _keys(act)
    sealer.settle()  # only what is signed can be read
    said = Custody.of(sealer.reader.entries())
    for index, erased in reversed(said.erasures):
        if set(keys) <= set(erased):  # we, or who was here before us, died in the middle
            return _destroy(sealer, index, erased)
    for key in keys:
        if key in said.held:
            raise UsageError(f"the data key {key.hex()} is under legal hold ({said.held[key]}); lift the hold first")
    known = [sealer.keys.get(key) for key in keys]
    for one in known:
        if not one.sandbox and not one.session:
            raise UsageError(f"the data key {one.name} keeps what the node says of itself, which is about no sandbox")
    # Nobody can tell whose bytes that are no record are: all kept since the first of these sandboxes began go as well.
    begun = min(one.created for one in known)
    keys += [key for until, key in said.kept if until >= begun and key not in keys]
    texts = {"reason": _text(act, "reason"), "by": _text(act, "by")}
    return _destroy(sealer, sealer.record("erase", at=list(stamp()), keys=keys, **texts), keys)


def _destroy(sealer: Sealer, entry: int, keys: list[bytes]) -> dict[str, Any]:
    """What entry `entry` says."""
    for key in keys:
        sealer.owners.forget(key)
        sealer.keys.destroy(key)
    return {"entry": entry, "keys": keys, "spool_bytes_left": free_spools(sealer.home, sealer.sealed)}


@dataclass(frozen=True, slots=True)
class Retention:
    """What a retention would remove: segments, their size on disk, how many a hold spares.

    `emptied`: data keys under which nothing is left then. `removed`: the ranges that are removed already.
    """

    segments: list[int]
    size: int
    held: int
    emptied: set[bytes]
    removed: list[tuple[int, int]]


def plan_retention(home: Path, reader: LogReader, before: int) -> Retention:
    """Which segments were closed before a moment (REALTIME in ns) and are not on hold or removed already.

    Raises OSError where the disk does not say how large they are.
    """
    said = Custody()
    segments: list[tuple[int, bytes, bool]] = []
    for entry in reader.entries():
        said.see(entry)
        if entry.kind == "segment":
            segments.append((entry.map["segment"], entry.map.get("key", b""), entry.map["last"][0] < before))
    gone = {number for first, last in said.removed for number in range(first, last + 1)}
    numbers, spared = [], 0
    old: set[bytes] = set()
    left: set[bytes] = set()
    for number, key, is_old in segments:
        if number in gone or (is_old and key not in said.held):
            old.add(key)
            if number not in gone:
                numbers.append(number)
        else:
            left.add(key)
            spared += is_old
    size = 0
    for number in numbers:
        with contextlib.suppress(FileNotFoundError):
            size += Layout(home).segment(number).stat().st_size
    return Retention(numbers, size, spared, old - left - said.held.keys() - {b""}, said.removed)


def _retain(sealer: Sealer, act: dict[str, Any]) -> dict[str, Any]:
    sealer.settle()
    before = int(act["before"])
    plan = plan_retention(sealer.home, sealer.reader, before)
    texts = {"reason": _text(act, "reason"), "by": _text(act, "by")}
    ranges = _ranges(plan.segments)
    for at in range(0, len(ranges), _MAX_RANGES):
        part = ranges[at : at + _MAX_RANGES]
        sealer.record("retain", at=list(stamp()), segments=part, before=before, **texts)
    for first, last in (*plan.removed, *ranges):  # all of them: the last time we may have been interrupted
        _remove_segments(sealer.home, range(first, last + 1))
    for key in sealer.keys.all():
        # It names a sandbox of which nothing is left.
        if key.id in plan.emptied and (key.sandbox or key.session) and not sealer.owners.needs(key.id):
            sealer.keys.destroy(key.id)
    return {"segments": len(plan.segments), "held": plan.held, "bytes": plan.size}


def _remove_segments(home: Path, numbers: Iterable[int]) -> None:
    """Remove blobs that a signed entry says are removed. Durable when it returns. Raises OSError as the disk does."""
    folders = set()
    for number in numbers:
        path = Layout(home).segment(number)
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        folders.add(path.parent)
    for folder in folders:
        sync_folder(folder)


def _ranges(numbers: list[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def free_spools(home: Path, sealed: dict[str, int]) -> int:
    """Overwrite what is sealed in spool files that are still written to; returns how many sealed bytes had to stay.

    A writer that has just died may have to find its last batch again (`collector.receiver`): the records of one stream
    at the end of a file stay, unless the stream is closed.
    """
    left = 0
    for path in spools(home):
        done = sealed.get(path.name, 0)
        if not has_writer(path):
            continue  # it is removed as soon as all of it is sealed
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            end = _finished(fd, done, os.fstat(fd).st_size)
            for at in range(0, end, len(_ZEROS)):
                os.pwrite(fd, _ZEROS[: min(len(_ZEROS), end - at)], at)
            os.fsync(fd)
        finally:
            os.close(fd)
        left += done - end
    return left


def _finished(fd: int, sealed: int, size: int) -> int:
    """Up to where no batch can be unfinished."""
    data = os.pread(fd, size, 0)
    start = max(data.find(MAGIC), 0)
    end = run = start
    stream, closed = -1, True
    for stop, record in parse_records(memoryview(data)[start:]):
        if record.stream != stream or closed:
            run = end
        stream, closed, end = record.stream, record.kind == Kind.CLOSE, start + stop
    return min(sealed, end if closed else run)
