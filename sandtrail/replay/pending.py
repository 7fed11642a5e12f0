"""What a follower has read of the log and has not made visible yet: events, sessions, streams, the decoders' state.

All of it becomes visible in one transaction of the catalog, together with how far the log was read (`Pending.commit`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, Final

import structlog

from sandtrail.errors import DamagedError, ErasedError
from sandtrail.replay.decode.decoder import DIED, RECORDER, Decoder
from sandtrail.replay.decode.stream import StreamState
from sandtrail.replay.events import Event
from sandtrail.replay.index.holdings import Holdings
from sandtrail.replay.index.purge import DAMAGED, LOG_N, Remark, Removal
from sandtrail.replay.index.writer import IndexWriter
from sandtrail.replay.sessions import Book
from sandtrail.store.datakeys import DataKey, DataKeys
from sandtrail.store.manifest import Entry
from sandtrail.store.spool import Record

__all__ = ["Pending"]

_CUT_OFF: Final = "recorder ended without a stop"
_REMOVED: Final = {"erase": "evidence erased", "retain": "evidence removed after its time"}
_log = structlog.get_logger()


class Pending:
    """Begins where the catalog says that the last transaction left off. After an exception it is of no use any more:
    a new one goes on."""

    def __init__(self, writer: IndexWriter, data_keys: DataKeys) -> None:
        """Raises what the catalog's engine raises where it cannot be read."""
        self._writer = writer
        self._data_keys = data_keys
        self._decoder, self._book = Decoder(), Book(writer.session)
        self._holdings = Holdings(writer.key)
        self._rows: dict[str, list[Any]] = defaultdict(list)
        self.events = 0
        for stream, state in writer.states().items():
            self._decoder.load(int(stream, 16), state)
        self._book.load(*writer.unfinished())

    def commit(self, position: int) -> None:
        """Make it visible, and note that the log was read up to `position`; goes on with nothing pending."""
        rows, self._rows, self.events = self._rows, defaultdict(list), 0
        sessions, streams = self._book.take_changes()
        touched, self._decoder.touched = self._decoder.touched, set()
        states = {f"{stream:016x}": self._decoder.dump(stream) for stream in touched}
        self._writer.commit(position, rows, sessions, streams, states, *self._holdings.take_changes())

    # -- what is there -------------------------------------------------------------------------------------------------

    def count(self, entry: Entry) -> None:
        """Count a segment under its data key, whether or not it can be read."""
        self._holdings.segment(entry)

    def hold(self, entry: Entry) -> None:
        """A legal hold begins or ends."""
        self._holdings.hold(entry)

    def segment(self, entry: Entry, records: list[Record]) -> None:
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
            self.events += len(rows)
            place += count
        if records:
            rows = []
            self._decoder.tick(records[-1].when.realtime_ns, rows)
            self._found(rows, records[-1].when.realtime_ns)
            self._bury(records[-1].when.realtime_ns)

    def passed(self, entry: Entry) -> None:
        """The log says no more than that it goes on, or that the recorder stops."""
        self._bury(_clock(entry.map.get("at")), stopped=entry.kind == "stop")

    def _bury(self, now_ns: int, *, stopped: bool = False) -> None:
        rows: list[Any] = []
        dead = self._decoder.bury(now_ns, rows, stopped=stopped)
        self._found(rows, now_ns)
        for state in dead:
            self._book.died(state, now_ns, DIED)

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
            self.events += len(some)

    # -- what is missing -----------------------------------------------------------------------------------------------

    def damaged(self, entry: Entry, words: str) -> None:
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

    def gap(self, entry: Entry, ref: str) -> None:
        """The log itself says that evidence is missing; that concerns whatever was being recorded.

        `ref`: the last frame before the entry, which is no frame itself.
        """
        cause = str(entry.map.get("cause") or "unknown")
        begin, end = _clock(entry.map.get("from")), _clock(entry.map.get("to"))
        for name in self._book.recording:
            if cause == _CUT_OFF:
                rows: list[Any] = []
                self._decoder.abandon(name, ref, 0, begin or end, rows)
                self._found(rows, begin or end)
            detail = {"cause": cause, "count": None, "from_ns": begin or None, "to_ns": end or None}
            self._tell(ref, name, None, {**detail, "source": "recorder", "log_index": entry.index})
            if cause == _CUT_OFF:
                self._book.cut_off(name, begin or end, cause)

    def removed(self, removal: Removal, remark: Remark) -> None:
        """A session lost a part of its evidence to an act that the log tells, and goes on without it."""
        entry = removal.entry
        bounds = {"from_ns": removal.from_ns, "to_ns": removal.to_ns, "log_index": entry.index}
        what = f"log entry {entry.index}: {entry.map['reason']}"[:2000]
        detail = {"cause": _REMOVED[entry.kind], "count": remark.frames, **bounds, "what": what}
        self._tell(f"{removal.segments[0]}.0", remark.session, None, detail)

    def _tell(self, ref: str, session: str, state: StreamState | None, detail: dict[str, Any]) -> None:
        when = detail["from_ns"] or detail["to_ns"] or 0
        sandbox, source = (state.sandbox, state.source) if state else ("", "")
        row = Event(
            ref, session, sandbox, source, "gap", when, detail["to_ns"] or when, object=detail["cause"],
            result=detail["count"], detail=json.dumps(detail), n=LOG_N,
        )  # fmt: skip
        self._found([tuple(row)], when)


def _clock(stamp: object) -> int:
    """REALTIME of a log entry's three clocks; 0 where it has none."""
    return int(stamp[0]) if isinstance(stamp, list | tuple) and stamp and isinstance(stamp[0], int) else 0
