"""Where a file's reader goes on when it is started again, whatever ended it: no record is lost, none is told twice.

Every record's frame says where in the file it stood. So the record itself tells how far a file was recorded, and cannot
disagree with what is in it. The bookmark only says where in the log to look: it names a place whose frame is sealed,
and how long the log was when nothing behind that place was recorded yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from sandtrail.collector.others.intake import Intake
from sandtrail.errors import NotFoundError, SandtrailError, StoreError, UsageError
from sandtrail.store.frames import Kind
from sandtrail.store.layout import Layout, present, publish
from sandtrail.store.position import last_positions, wait_sealed
from sandtrail.store.reader import open_log

__all__ = ["HEAD", "Bookmark", "Place"]

HEAD: Final = 4096
"""Bytes at a unit's beginning that tell whether a file is the one that it was read from."""
EVERY_S: Final = 5.0


class Place(NamedTuple):
    """Up to where a file is recorded: the record number `part` of the bytes [start, end) is the last one."""

    turn: int
    """Counts the files that have had the name."""
    inode: int
    start: int
    end: int
    part: int
    mark: str
    """The keyed fingerprint of the first of these bytes."""

    @classmethod
    def read(cls, told: object) -> Place | None:
        """From a frame or a bookmark; None for what is none."""
        if not isinstance(told, list) or len(told) != len(cls._fields) or not isinstance(told[-1], str):
            return None
        return cls(*told) if all(isinstance(number, int) for number in told[:-1]) else None


@dataclass(frozen=True)
class _Kept:
    """`place` is sealed, and what was recorded behind it is in streams of `run`, in the log from `since` on."""

    place: list[Any]
    run: str
    since: int


class Bookmark:
    """Of one file, read for one source and one binding. Only one process has it at a time: raises UsageError while
    another does."""

    def __init__(self, intake: Intake, path: Path) -> None:
        self._intake = intake
        home, binding = intake.home, intake.binding
        named = "\0".join((intake.source.name, str(path.resolve()), binding.session, binding.by))
        folder = home / "ingest"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Neither a path nor a session's name: they would outlive an erasure.
        self._path = folder / f"{intake.fingerprint(named.encode())}.json"
        self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise UsageError(f"another `sandtrail ingest` reads {path} in the same way; end it first") from None
        self._waiting: tuple[_Kept, str, int] | None = None
        self._next = time.monotonic() + EVERY_S

    def last(self) -> Place | None:
        """The last record of the file, by what is in the log; None where nothing is known of it. Raises RecorderError
        where what was recorded is not sealed in time."""
        try:
            kept = _Kept(**json.loads(self._path.read_bytes()))
            place = Place.read(kept.place)
        except (FileNotFoundError, ValueError, TypeError):
            return None
        if place is None:
            return None
        wait_sealed(self._intake.home)
        found = list(self._recorded(kept))
        return max([place, *found], key=lambda at: (at.turn, at.start, at.end, at.part))

    def _recorded(self, kept: _Kept) -> Iterator[Place]:
        try:
            reader = open_log(self._intake.home)
        except NotFoundError:
            return
        for entry in reader.entries(kept.since):
            streams = entry.map.get("streams", {}) if entry.kind == "segment" else {}
            if not any(str(stream).startswith(kept.run) for stream in streams):
                continue
            try:
                frames = list(reader.frames(entry.map["segment"]))
            except SandtrailError:
                # Erased or damaged meanwhile: how far it went is not to be known any more.
                self._intake.lost("what was recorded last is gone, so it may be told twice")
                continue
            for frame in frames:
                if frame.kind == Kind.DATA and f"{frame.stream:016x}".startswith(kept.run):
                    with contextlib.suppress(ValueError, AttributeError):
                        if place := Place.read(json.loads(frame.payload).get("place")):
                            yield place

    def begin(self, place: Place) -> None:
        """From here on this process records; what was recorded up to `place` is sealed. Raises StoreError."""
        self._write(_Kept(list(place), self._intake.run, self._size()))

    def look(self, place: Place) -> None:
        """Move on, now and then: `place` is recorded, and will be the bookmark when that is sealed."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY_S
            with contextlib.suppress(SandtrailError):  # an older bookmark does as well, it takes longer
                self._move(place)

    def _move(self, place: Place) -> None:
        if self._waiting is not None:
            kept, spool, size = self._waiting
            if not self._sealed(spool, size):
                return
            self._write(kept)
        self._waiting = _Kept(list(place), self._intake.run, self._size()), *self._intake.written()

    def _sealed(self, spool: str, size: int) -> bool:
        if not present(Layout(self._intake.home).spool / spool):
            return True  # it was full, and is removed when all of it is sealed
        try:
            sealed = last_positions(open_log(self._intake.home)).get(spool, 0)
        except NotFoundError:
            return False
        return sealed >= size

    def _size(self) -> int:
        try:
            return open_log(self._intake.home).size()
        except NotFoundError:
            return 0

    def _write(self, kept: _Kept) -> None:
        try:
            publish(self._path, json.dumps(asdict(kept)).encode())
        except OSError as error:
            raise StoreError(f"cannot write {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)
