"""Following the log: new segments are decoded and indexed as soon as they are signed.

The cursor moves in the same transaction that shows the events, so each frame is in the index exactly once. What a
decoder knows of an open stream is only in memory: a follower that starts makes the sessions anew that had not ended.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from sandtrail.errors import NotFoundError, StoreError
from sandtrail.replay.decode.decoder import VERSION, Decoder
from sandtrail.replay.events import Event
from sandtrail.replay.index import Index
from sandtrail.replay.index.catalog import open_catalog
from sandtrail.replay.index.writer import IndexWriter
from sandtrail.replay.sessions import Book, session_of
from sandtrail.store.manifest import Entry
from sandtrail.store.reader import LogReader, open_log

__all__ = ["Follower", "catch_up"]

_BATCH_ROWS = 100_000
_BATCH_ENTRIES = 256
_POLL = 0.2
_log = structlog.get_logger()


class Follower:
    """The one writer of a home's index. Raises StoreError when another follower is at work."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(home / "follow.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StoreError(f"another follower already indexes {home}") from None
        self._writer = IndexWriter(home, open_catalog(home))
        self._reader: LogReader | None = None
        self._decoder = Decoder()
        self._book = Book()
        self._rows: dict[str, list[Any]] = defaultdict(list)
        self._pending = 0
        self._heard_ns = 0
        self.position = self._writer.position(VERSION)
        self._remake()

    def _remake(self) -> None:
        """Derive again the sessions that were not over when the last follower stopped."""
        unfinished = self._writer.unfinished()
        if not unfinished or not self.position:
            return
        self._writer.forget(list(unfinished))
        reader = self._open()
        if reader is None:
            return
        wanted = set(unfinished)
        for entry in reader.entries(min(unfinished.values()), self.position):
            self._entry(reader, entry, wanted)
        self._commit()

    def _open(self) -> LogReader | None:
        if self._reader is None:
            try:
                self._reader = open_log(self.home)
            except NotFoundError:
                return None
        return self._reader

    def step(self) -> int:
        """Index what is new; returns how many log entries were read. What it read is visible when it returns.

        Raises StoreError or DamagedError when the log cannot be read on; everything before that is indexed.
        """
        reader = self._open()
        if reader is None:
            return 0
        size = reader.size()
        start = self.position
        try:
            for entry in reader.entries(start, min(size, start + _BATCH_ENTRIES)):
                self._entry(reader, entry, None)
                self.position = entry.index + 1
                if self._pending >= _BATCH_ROWS:
                    self._commit()
        finally:
            if self.position > start:
                self._tick()
                self._commit()
        return self.position - start

    def _entry(self, reader: LogReader, entry: Entry, wanted: set[str] | None) -> None:
        if entry.kind == "segment":
            self._segment(reader, entry, wanted)
        elif entry.kind == "gap" and entry.map.get("cause") == "recorder ended without a stop":
            self._cut_off(entry)

    def _segment(self, reader: LogReader, entry: Entry, wanted: set[str] | None) -> None:
        decoder, book = self._decoder, self._book
        for frame in reader.frames(entry.map["segment"]):
            rows: list[Any] = []
            state = decoder.feed(
                frame.segment, frame.place, frame.stream, frame.seq, frame.kind, frame.realtime_ns, frame.payload, rows
            )
            name = session_of(state)
            if wanted is not None and name not in wanted:
                continue
            book.frame(frame, state, rows, entry.index)
            if rows:
                if not state.session:
                    rows = [(row[0], name, *row[2:]) for row in rows]
                self._rows[name].extend(rows)
                self._pending += len(rows)
            self._heard_ns = frame.realtime_ns

    def _cut_off(self, entry: Entry) -> None:
        """Nobody ended these sessions: a recorder that died did, and its successor says between which times."""
        begin, end = entry.map.get("from") or [0], entry.map.get("to") or [0]
        cause = str(entry.map.get("cause"))
        for row in self._book.cut_off(int(begin[0]), cause):
            detail = f'{{"cause":"{cause}","count":null,"from_ns":{int(begin[0])},"to_ns":{int(end[0])}}}'
            streams = [s for s in self._decoder.streams.values() if session_of(s) == row["id"]]
            source = streams[0].source if streams else "collector"
            event = Event(
                f"{self._last_ref(entry)}", row["id"], row["sandbox"], source, "gap", int(begin[0]), int(end[0]), 0,
                object=cause, detail=detail,
            )  # fmt: skip
            self._rows[row["id"]].append(event)
            self._pending += 1

    def _last_ref(self, entry: Entry) -> str:
        """The last frame before a log entry that is no frame itself."""
        reader = self._open()
        assert reader is not None
        for index in range(entry.index - 1, -1, -1):
            before = next(reader.entries(index, index + 1))
            if before.kind == "segment":
                return f"{before.map['segment']}.{before.map['frames'] - 1}"
        return ""

    def _tick(self) -> None:
        """Give out events that have waited too long for a message that belongs to them."""
        rows: list[Any] = []
        self._decoder.tick(self._heard_ns, rows)
        for row in rows:
            self._rows[row[1]].append(row)

    def _commit(self) -> None:
        rows, self._rows, self._pending = self._rows, defaultdict(list), 0
        sessions, streams = self._book.take_changes()
        self._writer.commit(self.position, rows, sessions, streams)

    def run(self, stopped: Callable[[], bool], poll: float = _POLL) -> None:
        """Follow until `stopped()`. A log that cannot be read is said once and tried again: it may be restored."""
        said = ""
        while not stopped():
            try:
                read = self.step()
            except (StoreError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    _log.error("cannot follow the log", error=said, position=self.position)
                read = 0
                time.sleep(1)
            if not read:
                time.sleep(poll)

    def close(self) -> None:
        """Let another follower take over."""
        os.close(self._lock)


def catch_up(home: Path, timeout: float = 120.0) -> Index:
    """Have everything that is signed now in the index; returns the index.

    Where another follower is at work, wait for it. Raises StoreError when that takes longer than `timeout` seconds.
    """
    try:
        follower = Follower(home)
    except StoreError as busy:
        index = Index(home)
        try:
            size = open_log(home).size()
        except NotFoundError:
            return index
        deadline = time.monotonic() + timeout
        while index.log_index() < size:
            if time.monotonic() > deadline:
                raise StoreError(f"the index does not catch up with the log: {busy}") from None
            time.sleep(0.1)
        return index
    try:
        while follower.step():
            pass
    finally:
        follower.close()
    return Index(home)
