"""Following the log: new segments are decoded and indexed as soon as they are signed.

What becomes visible, how far the log was read, and what the decoders know of open streams change in one transaction of
the catalog. So each frame is in the index exactly once, whenever the follower is killed, and it goes on where it was.
What the log says is erased or removed is out of the index, its files included, before an entry behind that is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sandtrail.errors import DamagedError, ErasedError, NotFoundError, StoreError
from sandtrail.replay.decode.decoder import RECORDER, VERSION, Decoder, StreamState
from sandtrail.replay.events import Event
from sandtrail.replay.index import Index
from sandtrail.replay.index.catalog import open_catalog
from sandtrail.replay.index.holdings import Holdings, Ranges, Removed
from sandtrail.replay.index.purge import DAMAGED, LOG_N, Removal, fresh, purge
from sandtrail.replay.index.writer import IndexWriter
from sandtrail.replay.sessions import Book
from sandtrail.replay.summaries import Summaries
from sandtrail.store.custody import removed
from sandtrail.store.datakeys import DataKey, DataKeys
from sandtrail.store.manifest import Entry
from sandtrail.store.reader import LogReader, open_log
from sandtrail.store.segments import read_records
from sandtrail.store.spool import Record

__all__ = ["Follower", "catch_up"]

_BATCH_ROWS: Final = 100_000
_BATCH_ENTRIES: Final = 256
_POLL: Final = 0.2
_RETRY: Final = 1.0
_NICE: Final = 10
_CUT_OFF: Final = "recorder ended without a stop"
_REMOVED: Final = {"erase": "evidence erased", "retain": "evidence removed after its time"}
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
        try:
            self._writer = IndexWriter(home, open_catalog(home))
        except BaseException:
            os.close(self._lock)
            raise
        self._reader: LogReader | None = None
        self._data_keys = DataKeys(home)
        self._removed = Removed()
        self._purged = self._loaded = False
        self._load()
        Summaries(home).sweep(self._writer.session)

    def _load(self) -> None:
        """Take up where the catalog says that the last transaction left off."""
        self.position = self._writer.position(VERSION)
        self._decoder, self._book = Decoder(), Book(self._writer.session)
        self._holdings = Holdings(self._writer.key)
        self._rows: dict[str, list[Any]] = defaultdict(list)
        self._pending = 0
        for stream, state in self._writer.states().items():
            self._decoder.load(int(stream, 16), state)
        self._book.load(*self._writer.unfinished())
        self._loaded = True

    def _open(self) -> LogReader | None:
        if self._reader is None:
            try:
                self._reader = open_log(self.home)
            except NotFoundError:
                return None
        return self._reader

    def step(self) -> int:
        """Index what is new; returns how many log entries were read. What it read is visible when it returns.

        Raises StoreError when the log or the catalog cannot be read or written. What was visible before still is; a
        later step begins again from there.
        """
        if not self._loaded:
            self._load()
        reader = self._open()
        if reader is None:
            return 0
        size, start = reader.size(), self.position
        self._loaded = False
        try:
            for entry in reader.entries(start, min(size, start + _BATCH_ENTRIES)):
                self._entry(reader, entry)
                self.position = entry.index + 1
                if self._pending >= _BATCH_ROWS:
                    self._commit()
            if self.position > start:
                self._commit()
        except SQLAlchemyError as error:
            raise StoreError(f"the catalog cannot be written: {error}") from error
        self._loaded = True
        return self.position - start

    # -- one entry of the log ------------------------------------------------------------------------------------------

    def _entry(self, reader: LogReader, entry: Entry) -> None:
        if entry.kind == "segment":
            self._holdings.segment(entry)
            try:
                records = read_records(self.home, entry.map, self._data_keys)
            except (DamagedError, NotFoundError) as error:
                if not (isinstance(error, NotFoundError) and self._removed.explains(reader, entry)):
                    self._damaged(entry, str(error))
                return
            self._segment(entry, records)
        elif entry.kind == "gap":
            self._gap(reader, entry)
        elif entry.kind == "hold":
            self._holdings.hold(entry)
        elif entry.kind in _REMOVED:
            self._purge(reader, entry)

    def _segment(self, entry: Entry, records: list[Record]) -> None:
        """Decode a segment, record by record; each holds frames of one stream and one kind."""
        segment, place = entry.map["segment"], 0
        self._bind(entry)
        for record in records:
            count, when_ns = len(record.lengths), record.when.realtime_ns
            if not count:
                continue
            rows: list[Any] = []
            state = self._decoder.run(segment, place, record.stream, record.kind, when_ns, record.frames(), rows)
            ref = f"{segment}.{place}"
            self._book.frames(state, ref, record.kind, count, when_ns, rows, entry.index)
            self._holdings.owned(entry, state.session)
            self._rows[state.session].extend(rows)
            self._pending += len(rows)
            place += count
        if records:
            rows = []
            self._decoder.tick(records[-1].when.realtime_ns, rows)
            self._found(rows, records[-1].when.realtime_ns)

    def _bind(self, entry: Entry) -> None:
        """Streams that have lost their beginning still belong to whom their data key belongs to."""
        for name, (first, *_) in entry.map["streams"].items():
            if first and int(name, 16) not in self._decoder.streams and (key := self._key(entry)) and key.session:
                self._decoder.bind(int(name, 16), key.session, key.sandbox)

    def _key(self, entry: Entry) -> DataKey | None:
        try:
            return self._data_keys.get(entry.map["key"]) if "key" in entry.map else None
        except (ErasedError, DamagedError):
            return None

    def _found(self, rows: list[Any], when_ns: int) -> None:
        """Take events of any sessions that came of no frame just now."""
        by_session: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            by_session[row[1]].append(row)
        for session, some in by_session.items():
            self._book.events(session, some, when_ns)
            self._rows[session].extend(some)
            self._pending += len(some)

    # -- what is missing -----------------------------------------------------------------------------------------------

    def _damaged(self, entry: Entry, words: str) -> None:
        """A segment that is not what was signed: what it held is missing from the index, and the rest goes on."""
        _log.error("a segment cannot be indexed", segment=entry.map["segment"], error=words)
        when = [int(stamp[0]) for stamp in (entry.map["first"], entry.map["last"])]
        for name, (first, frames, _) in entry.map["streams"].items():
            state = self._decoder.streams.get(int(name, 16))
            bounds = {"after_seq": first - 1, "before_seq": first + frames, "from_ns": when[0], "to_ns": when[1]}
            detail = {"cause": DAMAGED, "count": frames, **bounds, "stream": name, "what": words[:2000]}
            key = self._key(entry)
            session = state.session if state else (key.session if key else "") or RECORDER
            self._holdings.owned(entry, session)
            self._tell(f"{entry.map['segment']}.0", session, state, detail)

    def _gap(self, reader: LogReader, entry: Entry) -> None:
        """The log itself says that evidence is missing; that concerns whatever was being recorded."""
        cause = str(entry.map.get("cause") or "unknown")
        begin, end = _clock(entry.map.get("from")), _clock(entry.map.get("to"))
        ref = self._last_ref(reader, entry)
        for name in self._book.recording:
            if cause == _CUT_OFF:
                rows: list[Any] = []
                self._decoder.abandon(name, ref, 0, begin or end, rows)
                self._found(rows, begin or end)
            detail = {"cause": cause, "count": None, "from_ns": begin or None, "to_ns": end or None}
            self._tell(ref, name, None, {**detail, "source": "recorder", "log_index": entry.index})
            if cause == _CUT_OFF:
                self._book.cut_off(name, begin or end, cause)

    def _tell(self, ref: str, session: str, state: StreamState | None, detail: dict[str, Any]) -> None:
        when = detail["from_ns"] or detail["to_ns"] or 0
        sandbox, source = (state.sandbox, state.source) if state else ("", "")
        row = Event(
            ref, session, sandbox, source, "gap", when, detail["to_ns"] or when, object=detail["cause"],
            result=detail["count"], detail=json.dumps(detail), n=LOG_N,
        )  # fmt: skip
        self._found([tuple(row)], when)

    def _last_ref(self, reader: LogReader, entry: Entry) -> str:
        """The last frame before a log entry that is no frame itself."""
        for index in range(entry.index - 1, -1, -1):
            before = next(reader.entries(index, index + 1))
            if before.kind == "segment":
                return f"{before.map['segment']}.{before.map['frames'] - 1}"
        return ""

    # -- what must not be there any more -------------------------------------------------------------------------------

    def _purge(self, reader: LogReader, entry: Entry) -> None:
        """Take what was erased or removed out of the index; a session that lost a part of its evidence says so."""
        self._commit()
        removal = self._removal(reader, entry)
        remarks = purge(self._writer, removal)
        Summaries(self.home).sweep(self._writer.session)
        self._load()
        self._loaded, self._purged = False, True
        for remark in remarks:
            bounds = {"from_ns": removal.from_ns, "to_ns": removal.to_ns, "log_index": entry.index}
            what = f"log entry {entry.index}: {removal.entry.map['reason']}"[:2000]
            detail = {"cause": _REMOVED[entry.kind], "count": remark.frames, **bounds, "what": what}
            self._tell(f"{removal.segments[0]}.0", remark.session, None, detail)

    def _removal(self, reader: LogReader, entry: Entry) -> Removal:
        """What the entry took away, from the manifests of its segments."""
        found, ranges, first, last = Removal(entry), Ranges(removed([entry])), 0, entry.index
        if entry.kind == "erase":
            found.keys, first, last = fresh(self._writer, entry)
        erased = {bytes.fromhex(key) for key in found.keys}
        for before in reader.entries(first, last):
            if before.kind == "segment" and (before.map.get("key") in erased or before.map["segment"] in ranges):
                found.add(before.map)
        return found

    # -- what becomes visible ------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        rows, self._rows, self._pending = self._rows, defaultdict(list), 0
        sessions, streams = self._book.take_changes()
        touched, self._decoder.touched = self._decoder.touched, set()
        states = {f"{stream:016x}": self._decoder.dump(stream) for stream in touched}
        if self._purged:
            # Before the cursor goes on: whoever sees it behind the act may rely on it.
            self._writer.scrub()
            self._purged = False
        self._writer.commit(self.position, rows, sessions, streams, states, *self._holdings.take_changes())

    def run(self, stopped: Callable[[], bool], poll: float = _POLL) -> None:
        """Follow until `stopped()`. What cannot be read or written is said once and tried again: it may be restored."""
        with contextlib.suppress(OSError):
            # Of this thread alone: what follows never takes the processor from what records.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        said = ""
        while not stopped():
            try:
                read = self.step()
                said = ""
            except (StoreError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    _log.error("cannot follow the log", error=said, position=self.position)
                read = 0
                time.sleep(_RETRY)
            if not read:
                time.sleep(poll)

    def close(self) -> None:
        """Let another follower take over."""
        self._writer.close()
        os.close(self._lock)


def _clock(stamp: object) -> int:
    """REALTIME of a log entry's three clocks; 0 where it has none."""
    return int(stamp[0]) if isinstance(stamp, list | tuple) and stamp and isinstance(stamp[0], int) else 0


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
