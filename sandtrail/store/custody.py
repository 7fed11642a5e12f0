"""Custody of the evidence: erasure, retention and legal hold, as the one who writes the log carries them out.

Each is signed first and done afterwards, so that whatever is missing has an entry that says why.

    {"act": "hold", "keys": [data key ids], "on": bool, "case", "by"}
    {"act": "erase", "keys": [data key ids], "reason", "by"}
    {"act": "retain", "before": realtime in ns, "reason", "by", "dry": bool}
    {"act": "epoch"}    {"act": "time", "size", "checkpoint", "token", "authority"}
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sandtrail.errors import UsageError
from sandtrail.store.frames import Kind, stamp
from sandtrail.store.layout import Layout, sync_folder
from sandtrail.store.manifest import Entry
from sandtrail.store.position import has_writer, spools
from sandtrail.store.spool import MAGIC, parse_records

if TYPE_CHECKING:
    from sandtrail.store.sealer import Sealer

__all__ = ["carry_out", "held", "removed"]

_MAX_TEXT = 2000
_MAX_KEYS = 1000
_MAX_RANGES = 2000
_ZEROS = bytes(1 << 20)


def held(entries: Iterable[Entry]) -> dict[bytes, str]:
    """The data keys under legal hold, each with its case."""
    found: dict[bytes, str] = {}
    for entry in entries:
        if entry.kind == "hold":
            for key in entry.map["keys"]:
                if entry.map["on"]:
                    found[key] = str(entry.map["case"])
                else:
                    found.pop(key, None)
    return found


def removed(entries: Iterable[Entry]) -> list[tuple[int, int]]:
    """The ranges of segments, first and last, whose blobs a signed entry says are removed."""
    return [(first, last) for entry in entries if entry.kind == "retain" for first, last in entry.map["segments"]]


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
    on_hold = held(sealer.reader.entries())
    for key in keys:
        if key in on_hold:
            raise UsageError(f"the data key {key.hex()} is under legal hold ({on_hold[key]}); lift the hold first")
    for key in keys:
        known = sealer.keys.get(key)
        if not known.sandbox and not known.session:
            raise UsageError(f"the data key {key.hex()} keeps what the node says of itself, which is about no sandbox")
    sealer.settle()
    keys += [key for key in _kept(sealer, keys) if key not in keys]
    texts = {"reason": _text(act, "reason"), "by": _text(act, "by")}
    entry = sealer.record("erase", at=list(stamp()), keys=keys, **texts)
    for key in keys:
        sealer.owners.forget(key)
        sealer.keys.destroy(key)
    return {"entry": entry, "keys": keys, "spool_bytes_left": free_spools(sealer.home, sealer.sealed)}


def _kept(sealer: Sealer, keys: list[bytes]) -> list[bytes]:
    """Keys of spool bytes that were kept because they were no record: those that may be about the same sandboxes.

    Nobody can tell whose they are, so all that were kept since the first of these sandboxes began go with it.
    """
    begun = min((key.created for key in sealer.keys.all() if key.id in keys), default=0)
    return [
        entry.map["key"]
        for entry in sealer.reader.entries()
        if entry.kind == "gap" and "key" in entry.map and entry.map["to"][0] >= begun
    ]


def _retain(sealer: Sealer, act: dict[str, Any]) -> dict[str, Any]:
    sealer.settle()
    before = int(act["before"])
    on_hold = held(sealer.reader.entries())
    gone: set[int] = set()
    for first, last in removed(sealer.reader.entries()):
        gone.update(range(first, last + 1))
    numbers, spared = [], 0
    for entry in sealer.reader.entries():
        if entry.kind != "segment" or entry.map["last"][0] >= before or entry.map["segment"] in gone:
            continue
        if entry.map.get("key") in on_hold:
            spared += 1
        else:
            numbers.append(entry.map["segment"])
    result = {"segments": len(numbers), "held": spared, "bytes": 0}
    layout = Layout(sealer.home)
    paths = [layout.segment(number) for number in numbers]
    result["bytes"] = sum(path.stat().st_size for path in paths if path.exists())
    if act.get("dry") or not numbers:
        return result
    texts = {"reason": _text(act, "reason"), "by": _text(act, "by")}
    ranges = _ranges(numbers)
    for at in range(0, len(ranges), _MAX_RANGES):
        part = ranges[at : at + _MAX_RANGES]
        sealer.record("retain", at=list(stamp()), segments=part, before=before, **texts)
    remove_segments(sealer.home, numbers)
    return result


def remove_segments(home: Path, numbers: Iterable[int]) -> None:
    """Remove blobs that a signed entry says are removed. Durable when it returns."""
    folders = set()
    for number in numbers:
        path = Layout(home).segment(number)
        path.unlink(missing_ok=True)
        folders.add(path.parent)
    for folder in folders:
        if folder.is_dir():
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
