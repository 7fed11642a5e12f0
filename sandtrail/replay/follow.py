"""Following the log: new segments are decoded and indexed as soon as they are signed.

What becomes visible, how far the log was read, and what the decoders know of open streams change in one transaction of
the catalog. So each frame is in the index exactly once, whenever the follower is killed, and it goes on where it was.
What the log says is erased or removed is out of the index, its files included, before an entry behind that is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sandtrail.errors import DamagedError, NotFoundError, StoreError
from sandtrail.replay.decode.decoder import VERSION
from sandtrail.replay.index import Index
from sandtrail.replay.index.catalog import open_catalog
from sandtrail.replay.index.holdings import Ranges, Removed
from sandtrail.replay.index.purge import Removal, fresh, purge
from sandtrail.replay.index.writer import IndexWriter
from sandtrail.replay.pending import Pending
from sandtrail.replay.summaries import Summaries
from sandtrail.store.custody import removed
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.manifest import Entry
from sandtrail.store.reader import LogReader, open_log
from sandtrail.store.segments import read_records

__all__ = ["Follower", "catch_up"]

_BATCH_ROWS: Final = 100_000
_BATCH_ENTRIES: Final = 256
_POLL: Final = 0.2
_RETRY: Final = 1.0
_NICE: Final = 10
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
        self._pending = Pending(self._writer, self._data_keys)
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
                if self._pending.events >= _BATCH_ROWS:
                    self._commit()
            if self.position > start:
                self._commit()
        except SQLAlchemyError as error:
            raise StoreError(f"the catalog cannot be written: {error}") from error
        self._loaded = True
        return self.position - start

    def _entry(self, reader: LogReader, entry: Entry) -> None:
        if entry.kind == "segment":
            self._pending.count(entry)
            try:
                records = read_records(self.home, entry.map, self._data_keys)
            except (DamagedError, NotFoundError) as error:
                if not (isinstance(error, NotFoundError) and self._removed.explains(reader, entry)):
                    self._pending.damaged(entry, str(error))
                return
            self._pending.segment(entry, records)
        elif entry.kind == "gap":
            self._pending.gap(entry, self._last_ref(reader, entry))
        elif entry.kind in ("heartbeat", "stop"):
            self._pending.passed(entry)
        elif entry.kind == "hold":
            self._pending.hold(entry)
        elif entry.kind in ("erase", "retain"):
            self._purge(reader, entry)

    def _last_ref(self, reader: LogReader, entry: Entry) -> str:
        """The last frame before a log entry that is no frame itself."""
        for index in range(entry.index - 1, -1, -1):
            before = next(reader.entries(index, index + 1))
            if before.kind == "segment":
                return f"{before.map['segment']}.{before.map['frames'] - 1}"
        return ""

    def _purge(self, reader: LogReader, entry: Entry) -> None:
        """Take what was erased or removed out of the index; a session that lost a part of its evidence says so."""
        self._commit()
        removal = self._removal(reader, entry)
        remarks = purge(self._writer, removal)
        Summaries(self.home).sweep(self._writer.session)
        self._load()
        self._loaded, self._purged = False, True
        for remark in remarks:
            self._pending.removed(removal, remark)

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

    def _commit(self) -> None:
        if self._purged:
            # Before the cursor goes on: whoever sees it behind the act may rely on it.
            self._writer.scrub()
            self._purged = False
        self._pending.commit(self.position)

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
