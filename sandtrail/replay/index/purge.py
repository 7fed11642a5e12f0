"""Taking out of the index what the log says is erased or removed: the index must not outlive the evidence.

An act is carried out in one transaction of the catalog and can be done again: rows first, then the files that the
catalog knows no more, last what deleted rows leave in the catalog's own files (`catalog.scrub`). What stays of an
erased session is a row of `removals`: ids of keys, counts and times, all of which the signed log says too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import batched
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, delete, insert, select, update

from sandtrail.replay.decode.decoder import RECORDER
from sandtrail.replay.events import SCHEMA
from sandtrail.replay.index.tables import keys, owners, parts, removals, sessions, states, streams
from sandtrail.replay.index.writer import IndexWriter
from sandtrail.store.manifest import Entry

__all__ = ["DAMAGED", "LOG_N", "Remark", "Removal", "fresh", "purge"]

LOG_N: Final = 300
"""The number, among the events of the frame before it, of a gap that the log tells."""
DAMAGED: Final = "evidence damaged"
_AT_ONCE: Final = 500


@dataclass(slots=True)
class Removal:
    """What an `erase` or a `retain` entry of the log took away, counted from the manifests of its segments."""

    entry: Entry
    keys: list[str] = field(default_factory=list)
    """The data keys that it erased and no entry before it; ids as hex digits."""
    segments: list[int] = field(default_factory=list)
    frames: int = 0
    from_ns: int | None = None
    to_ns: int | None = None
    streams: dict[str, int] = field(default_factory=dict)
    """Frames of each stream, by its number as hex digits."""

    def add(self, manifest: dict[str, Any]) -> None:
        """Count one segment."""
        self.segments.append(manifest["segment"])
        self.frames += manifest["frames"]
        first, last = int(manifest["first"][0]), int(manifest["last"][0])
        self.from_ns = first if self.from_ns is None else min(self.from_ns, first)
        self.to_ns = last if self.to_ns is None else max(self.to_ns, last)
        for stream, (_, frames, _) in manifest["streams"].items():
            self.streams[stream] = self.streams.get(stream, 0) + frames


@dataclass(frozen=True, slots=True)
class Remark:
    """A session that lost a part of its evidence and goes on without it."""

    session: str
    frames: int


def fresh(writer: IndexWriter, entry: Entry) -> tuple[list[str], int, int]:
    """Which of an `erase` entry's keys no entry before it erased, and between which log entries their segments are."""
    named = [key.hex() for key in entry.map["keys"]]
    with writer.engine.connect() as db:
        queries = [select(keys).where(keys.c.id.in_(some)) for some in batched(named, _AT_ONCE)]
        found = [row for query in queries for row in db.execute(query)]
    before = {row.id for row in found if row.erased not in (None, entry.index)}
    held = [row for row in found if row.id not in before and row.segments]
    first = min((row.first_entry for row in held), default=0)
    return [key for key in named if key not in before], first, max((row.last_entry + 1 for row in held), default=0)


def purge(writer: IndexWriter, removal: Removal) -> list[Remark]:
    """Take out what was removed; returns the sessions that lost a part. `writer.scrub` is still to be called."""
    erased = removal.entry.kind == "erase"
    gone = set(removal.segments)
    with writer.engine.connect() as db:
        whole = _whole(db, removal.keys) if erased else set()
        lost = {session: n for session, n in _lost(db, removal.streams).items() if session not in whole}
        partly = lost.keys() | (_owned(db, removal.keys) - whole)
    cuts = {session: _Cut(writer, session, gone) for session in sorted(partly)}
    with writer.engine.begin() as db:
        done = db.scalar(select(removals.c.log_index).where(removals.c.log_index == removal.entry.index)) is not None
        for session in whole:
            _drop(db, session)
        for session, cut in cuts.items():
            if cut.apply(db, removal, lost.get(session, 0), again=done):
                _drop(db, session)
                lost.pop(session, None)
        for key in removal.keys:
            _forget(db, key, removal.entry.index)
        if not done and (removal.segments or removal.keys):
            db.execute(insert(removals).values(**_tombstone(removal)))
    writer.collect(everything=True)
    return [Remark(session, frames) for session, frames in sorted(lost.items())]


def _whole(db: Connection, erased: Sequence[str]) -> set[str]:
    """The sessions of which no key is left."""
    alive = select(owners.c.session).where(owners.c.key.not_in(erased), owners.c.session.in_(_owned(db, erased)))
    return _owned(db, erased) - set(db.scalars(alive)) - {RECORDER}


def _owned(db: Connection, of: Sequence[str]) -> set[str]:
    queries = [select(owners.c.session).where(owners.c.key.in_(some)) for some in batched(of, _AT_ONCE)]
    return {session for query in queries for session in db.scalars(query)}


def _lost(db: Connection, removed: dict[str, int]) -> dict[str, int]:
    """How many frames of each session were removed."""
    found: dict[str, int] = {}
    for some in batched(removed, _AT_ONCE):
        for row in db.execute(select(streams.c.id, streams.c.session).where(streams.c.id.in_(some))):
            found[row.session] = found.get(row.session, 0) + removed[row.id]
    return found


def _drop(db: Connection, session: str) -> None:
    """Everything about a session goes."""
    own = select(streams.c.id).where(streams.c.session == session)
    db.execute(delete(states).where(states.c.id.in_(own)))
    for table in (parts, streams, owners):
        db.execute(delete(table).where(table.c.session == session))
    db.execute(delete(sessions).where(sessions.c.id == session))


def _forget(db: Connection, key: str, index: int) -> None:
    """What a key held is gone, and so is whose it was."""
    db.execute(delete(owners).where(owners.c.key == key))
    if not db.execute(update(keys).where(keys.c.id == key).values(erased=index)).rowcount:
        zero = dict.fromkeys(("segments", "frames", "first_entry", "last_entry", "first_ns", "last_ns"), 0)
        db.execute(insert(keys).values(id=key, erased=index, **zero))


def _tombstone(removal: Removal) -> dict[str, Any]:
    entry = removal.entry
    return {
        "log_index": entry.index,
        "kind": entry.kind,
        "at_ns": int(entry.map["at"][0]),
        "keys": removal.keys,
        "segments": len(removal.segments),
        "frames": removal.frames,
        "from_ns": removal.from_ns,
        "to_ns": removal.to_ns,
        "reason": str(entry.map["reason"]),
        "by": str(entry.map["by"]),
    }


class _Cut:
    """A session's parts without the events of removed segments; new files are written before the catalog knows them."""

    def __init__(self, writer: IndexWriter, session: str, gone: set[int]) -> None:
        self._session, self._gone = session, gone
        self._events = self._gaps = self._left = 0
        self._parts: list[dict[str, Any]] = []
        for part in writer.live(session):
            kept, changed = self._filter(writer.home / part["path"])
            if changed and kept.num_rows:
                path = writer.path(session)
                pq.write_table(kept, path, compression="zstd", row_group_size=65_536)
                self._parts.append({"path": str(path.relative_to(writer.home)), "rows": kept.num_rows})
            elif not changed:
                self._parts.append({"path": part["path"], "rows": part["rows"]})

    def _filter(self, path: Path) -> tuple[pa.Table, bool]:
        """The rows of a part that stay, and whether others do not."""
        batches, changed = [], False
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(65_536):
                columns = [batch.column(name).to_pylist() for name in ("ref", "kind", "n", "object")]
                stays = [self._stays(*row) for row in zip(*columns, strict=True)]
                changed = changed or not all(stays)
                batches.append(batch.filter(pa.array(stays, pa.bool_())))
        return pa.Table.from_batches(batches, SCHEMA), changed

    def _stays(self, ref: str, kind: str, n: int, thing: str) -> bool:
        # Gaps that the log tells are named by a frame that they do not come from.
        if kind == "gap" and n == LOG_N and thing != DAMAGED:
            return True
        number = ref.partition(".")[0]
        if number.isdecimal() and int(number) in self._gone:
            self._events += 1
            self._gaps += kind == "gap"
            return False
        self._left += 1
        return True

    def apply(self, db: Connection, removal: Removal, frames: int, *, again: bool) -> bool:
        """Put the new parts in the place of the old; returns whether nothing is left of a session that is over."""
        row = db.execute(select(sessions).where(sessions.c.id == self._session)).mappings().first()
        if row is None:
            return False
        db.execute(delete(parts).where(parts.c.session == self._session))
        first = 0
        for part in self._parts:
            db.execute(insert(parts).values(session=self._session, first_row=first, live=True, **part))
            first += part["rows"]
        if not again:
            facts = dict(row["facts"])
            known = facts.get("removed") or {"frames": 0}
            facts["removed"] = {"log_index": removal.entry.index, "frames": known["frames"] + frames}
            changed = {"events": row["events"] - self._events, "gaps": row["gaps"] - self._gaps, "facts": facts}
            if self._undescribed(db):
                changed["command"] = []
            db.execute(update(sessions).where(sessions.c.id == self._session).values(**changed))
        return not self._left and row["state"] != "recording" and self._session != RECORDER

    def _undescribed(self, db: Connection) -> bool:
        """Streams whose first frame is gone lose what it said; returns whether the session's command came of one."""
        own = select(streams.c.id, streams.c.opened_ref, streams.c.descriptor).where(streams.c.session == self._session)
        command = False
        for stream in db.execute(own).all():
            if int(stream.opened_ref.partition(".")[0] or -1) in self._gone:
                command = command or bool(stream.descriptor.get("command"))
                db.execute(update(streams).where(streams.c.id == stream.id).values(descriptor={}))
        return command
