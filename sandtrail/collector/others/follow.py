"""Records out of a file, also one that grows and is rotated, and out of a pipe."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Final

from sandtrail.collector.others.bookmark import HEAD, Bookmark, Place
from sandtrail.collector.others.intake import Intake
from sandtrail.collector.others.pieces import Lines, Piece
from sandtrail.errors import UsageError

__all__ = ["read_file", "read_pipe"]

STEP: Final = 1 << 20
LOOK_S: Final = 0.2
"""How often a file that has come to its end is looked at again."""


def read_pipe(intake: Intake, fd: int, stop: Event) -> str:
    """Record the lines of a pipe until it ends or `stop` is set; returns why it is over."""
    lines = Lines(spread=intake.source.spread)
    reason = "stopped"
    while not stop.is_set():
        if not select.select([fd], [], [], LOOK_S)[0]:
            intake.rest()
            continue
        data = os.read(fd, STEP)
        if not data:
            reason = "end of input"
            break
        _record(intake, lines.feed(data), stop)
    _record(intake, lines.finish(), stop)
    return reason


def _record(intake: Intake, pieces: Iterator[Piece], stop: Event) -> None:
    for piece in pieces:
        intake.take(piece, "stdin", wait=stop)


def read_file(intake: Intake, path: Path, stop: Event, *, follow: bool, again: bool = False) -> str:
    """Record the lines of a file, with `follow` also those that are still to come; returns why it is over. It goes on
    where an earlier reading of the file has ended, in whatever way, unless all of it is to be read `again`.

    A file that is renamed is read to its end before the one that takes its place; of one that is cut short in its
    place, what had not been read is lost, and a gap says so. Raises UsageError when it cannot be read."""
    bookmark = Bookmark(intake, path)
    try:
        _Reading(intake, path, stop, bookmark).run(follow=follow, again=again)
    finally:
        bookmark.close()
    return "stopped" if stop.is_set() else "end of file"


class _Reading:
    """One reading of the files that have a name, one after the other."""

    def __init__(self, intake: Intake, path: Path, stop: Event, bookmark: Bookmark) -> None:
        self._intake = intake
        self._path = path
        self._stop = stop
        self._bookmark = bookmark
        self._fd = -1
        self._place = Place(0, 0, 0, 0, 0, "")
        self._lines = Lines()

    def run(self, *, follow: bool, again: bool) -> None:
        last = self._bookmark.last()
        try:
            self._begin(last, again=again)
            self._bookmark.begin(self._place)
            self._read(follow)
        finally:
            if self._fd >= 0:
                os.close(self._fd)

    def _begin(self, last: Place | None, *, again: bool) -> None:
        if last is None or again:
            self._next_file(0 if last is None else last.turn + 1)
            return
        self._fd = _found(self._intake, self._path, last)
        if self._fd < 0:
            self._intake.lost(
                "the file that was read before is gone, or was cut short; what had not been read of it is lost"
            )
            self._next_file(last.turn + 1)
            return
        if between := _between(self._path, self._fd):
            self._intake.lost(f"the file was rotated more than once while nobody read it; {between} were not read")
        # Where the last record was one of several in its bytes, these are cut apart again in the same way.
        self._place = last
        self._lines = Lines(spread=self._intake.source.spread, at=last.start)
        unit = os.pread(self._fd, last.end - last.start, last.start)
        os.lseek(self._fd, last.end, os.SEEK_SET)
        for number, piece in enumerate([*self._lines.feed(unit), *self._lines.finish()]):
            if number > last.part:
                self._take(piece, last.start, last.end, number)
        self._lines = Lines(spread=self._intake.source.spread, at=last.end)

    def _next_file(self, turn: int) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._fd = _open(self._path)
        self._place = Place(turn, os.fstat(self._fd).st_ino, 0, 0, 0, "")
        self._lines = Lines(spread=self._intake.source.spread)

    def _read(self, follow: bool) -> None:
        while not self._stop.is_set():
            self._bookmark.look(self._place)
            if self._step():
                continue
            if not follow:
                self._record(self._lines.finish())
                return
            if _replaced(self._fd, self._path):
                while self._step():  # what came between our last look and the renaming
                    pass
                self._record(self._lines.finish())
                self._next_file(self._place.turn + 1)
            elif os.fstat(self._fd).st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
                self._record(self._lines.finish())
                self._intake.lost("the file was cut short in its place; what had not been read of it is lost")
                self._next_file(self._place.turn + 1)
            else:
                self._intake.rest()
                self._stop.wait(LOOK_S)

    def _step(self) -> bool:
        data = os.read(self._fd, STEP)
        self._record(self._lines.feed(data))
        return bool(data)

    def _record(self, pieces: Iterator[Piece]) -> None:
        for piece in pieces:
            start, end = self._lines.unit
            at = self._place
            # A unit without a record, such as an empty line, makes no place; so an equal start is the same unit.
            number = at.part + 1 if at.mark and (at.start, at.end) == (start, end) else 0
            self._take(piece, start, end, number)

    def _take(self, piece: Piece, start: int, end: int, number: int) -> None:
        at = self._place
        same = at.mark and (at.start, at.end) == (start, end)
        mark = at.mark if same else self._intake.fingerprint(os.pread(self._fd, min(HEAD, end - start), start))
        place = Place(at.turn, at.inode, start, end, number, mark)
        self._intake.take(piece, "file", wait=self._stop, place=list(place))
        self._place = place


def _found(intake: Intake, path: Path, last: Place) -> int:
    """A descriptor of the file that was read last, under its name or the one that it was rotated to; -1 where there is
    none. By its number and by what stands where the last record was: a number is given anew when a file is gone."""
    named: list[str | Path]
    try:
        named = [entry.path for entry in os.scandir(path.parent) if entry.inode() == last.inode]
    except OSError as error:
        raise UsageError(f"cannot read {path.parent}: {error.strerror}") from error
    for candidate in [*named, path]:
        try:
            fd = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue
        size = min(HEAD, last.end - last.start)
        if os.fstat(fd).st_size >= last.end and (
            (not last.end and candidate in named)
            or (last.mark and intake.fingerprint(os.pread(fd, size, last.start)) == last.mark)
        ):
            return fd
        os.close(fd)
    return -1


def _between(path: Path, fd: int) -> int:
    """How many files have had the name since this one had it, beside the one that has it now."""
    ours, found = os.fstat(fd), 0
    if not _replaced(fd, path):
        return found
    for entry in os.scandir(path.parent):
        if entry.name.startswith(path.name) and entry.name != path.name and entry.is_file(follow_symlinks=False):
            there = entry.stat(follow_symlinks=False)
            found += there.st_ino != ours.st_ino and there.st_mtime_ns > ours.st_mtime_ns
    return found


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _replaced(fd: int, path: Path) -> bool:
    """Whether another file has the name now."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False  # it is being rotated; the next one comes
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    here = os.fstat(fd)
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)
