"""Taking records out of the spools: how far each file was taken and sealed, and when one can go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sandtrail.store.layout import Layout, listed, sync_folder
from sandtrail.store.position import has_writer, spools
from sandtrail.store.spool import Record, parse_records
from sandtrail.store.tail import Tail

__all__ = ["Intake", "Taker"]


class Taker(Protocol):
    """Who takes the records."""

    def take(self, record: Record, data: memoryview) -> bool:
        """Take a record and the bytes that it was parsed from; returns whether there is no room for more."""

    def skip(self, spool: str, offset: int, data: bytes) -> None:
        """Keep bytes that are no record; they count as taken."""


class Intake:
    """The spools of one home. `positions`: how far each file is sealed, as the log says."""

    def __init__(self, home: Path, taker: Taker, positions: dict[str, int]) -> None:
        self._home = home
        self._taker = taker
        self._tails: dict[str, Tail] = {}
        self._full = False
        self.positions = positions
        # Set when the recorder has died: its successor finishes what it had in hand, and wants to find the files.
        self.leaving = False

    def take(self, wanted: Callable[[Path], bool] = lambda _path: True) -> bool:
        """Hand over what is new, as long as there is room; returns whether there was anything."""
        busy = self._full = False
        waiting: set[str] = set()
        for path in spools(self._home):
            writer = path.name.split(".", 1)[0]
            if writer in waiting or not wanted(path):
                continue
            tail = self._tail(path)
            if tail is None:
                continue
            if self._take_from(tail):
                busy = True
            # A writer's files are taken strictly one after the other: a stream may go on in the next one.
            if tail.taken < tail.size():
                waiting.add(writer)
            if self._full:
                break
        return busy

    def _tail(self, path: Path) -> Tail | None:
        tail = self._tails.get(path.name)
        if tail is None:
            try:
                tail = self._tails[path.name] = Tail(path, self.positions.get(path.name, 0))
            except FileNotFoundError:
                return None
        return tail

    def _take_from(self, tail: Tail) -> bool:
        size, before = tail.size(), tail.taken
        if size <= before:
            return False
        data = tail.read()
        end = self._hand_over(data)
        if not end and size - before > len(data):
            data = tail.read(whole_record=True)
            end = self._hand_over(data)
        if end:
            tail.take(end)
        elif not self.leaving and (skip := tail.unreadable(data, size)):
            tail.take(skip)
            self._taker.skip(tail.path.name, tail.taken - skip, data[:skip])
        return tail.taken > before

    def _hand_over(self, data: bytes) -> int:
        view = memoryview(data)
        begin = 0
        for end, record in parse_records(data):
            self._full = self._taker.take(record, view[begin:end])
            begin = end
            if self._full:
                break
        return begin

    def mark(self) -> dict[str, int]:
        """Count everything taken as sealed: the entry that is appended next commits to it. Returns the positions."""
        for name, tail in self._tails.items():
            tail.sealed = self.positions[name] = tail.taken
        return dict(self.positions)

    def retire(self) -> None:
        """Remove the files that are sealed to their end and have no writer any more; for when all of that is signed."""
        if self.leaving:
            return
        for tail in list(self._tails.values()):
            if tail.sealed == tail.taken and not has_writer(tail.path) and tail.size() <= tail.taken:
                self._remove(tail)

    def _remove(self, tail: Tail) -> None:
        folder = Layout(self._home).spool
        # A writer that was killed while it began the file leaves a second name of it.
        for other in listed(folder, ".new", hidden=True):
            if other.name.startswith(".") and _same(other, tail.path):
                other.unlink(missing_ok=True)
        tail.path.unlink(missing_ok=True)
        # Before we forget how far it was sealed: should a power cut bring it back, it must not be sealed again.
        sync_folder(folder)
        tail.close()
        del self._tails[tail.path.name]
        self.positions.pop(tail.path.name, None)

    def close(self) -> None:
        """Let go of the files."""
        for tail in self._tails.values():
            tail.close()


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:  # its writer has just removed it
        return False
