"""Writing the index: a batch of events becomes Parquet files, and they become visible with everything that goes with
them in one transaction of the catalog. Small files are merged (merge.py), so that a long session does not become
thousands."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cbor2
import pyarrow.parquet as pq
from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from sandtrail.replay.events import to_table
from sandtrail.replay.index.catalog import scrub
from sandtrail.replay.index.merge import due, merge_files
from sandtrail.replay.index.tables import cursor, keys, owners, parts, removals, sessions, states, streams
from sandtrail.store.layout import listed, shred

__all__ = ["IndexWriter"]

_KEEP_RETIRED_NS: Final = 120 * 10**9
"""How long a file stays that no new reader is told of: an old one may be at it."""


class IndexWriter:
    """The one writer of an index (the follower's lock sees to that)."""

    def __init__(self, home: Path, engine: Engine) -> None:
        self.home = home
        self.engine = engine
        self._number = 0
        self.collect(everything=True)

    def close(self) -> None:
        """Let go of the catalog."""
        self.engine.dispose()

    # -- what there is -------------------------------------------------------------------------------------------------

    def position(self, decoder: int) -> int:
        """The log index to go on from; everything is dropped where another version of the decoders made it."""
        with self.engine.begin() as db:
            row = db.execute(select(cursor).where(cursor.c.name == "log")).mappings().first()
            if row is not None and row["decoder"] == decoder:
                return int(row["log_index"])
            for path in db.scalars(select(parts.c.path)).all():
                (self.home / path).unlink(missing_ok=True)
            for table in (parts, streams, sessions, states, cursor, keys, owners, removals):
                db.execute(delete(table))
            db.execute(insert(cursor).values(name="log", log_index=0, decoder=decoder))
        return 0

    def unfinished(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(sessions that are not over, streams that are not closed)."""
        with self.engine.connect() as db:
            open_sessions = db.execute(select(sessions).where(sessions.c.state == "recording")).mappings().all()
            open_streams = db.execute(select(streams).where(~streams.c.closed)).mappings().all()
        return [dict(row) for row in open_sessions], [dict(row) for row in open_streams]

    def session(self, session: str) -> dict[str, Any] | None:
        """A session's row."""
        with self.engine.connect() as db:
            row = db.execute(select(sessions).where(sessions.c.id == session)).mappings().first()
        return dict(row) if row else None

    def live(self, session: str) -> list[dict[str, Any]]:
        """The parts that hold a session's events now, in order."""
        with self.engine.connect() as db:
            found = db.execute(select(parts).where(_live(session)).order_by(parts.c.first_row)).mappings()
            return [dict(row) for row in found]

    def key(self, ident: str) -> dict[str, Any] | None:
        """What is known of a data key, by its id as hex digits."""
        with self.engine.connect() as db:
            row = db.execute(select(keys).where(keys.c.id == ident)).mappings().first()
        return dict(row) if row else None

    def states(self) -> dict[str, dict[str, Any]]:
        """What the decoders know of each open stream."""
        with self.engine.connect() as db:
            return {row.id: cbor2.loads(row.state) for row in db.execute(select(states))}

    # -- what becomes visible ------------------------------------------------------------------------------------------

    def commit(
        self,
        log_index: int,
        rows: Mapping[str, Sequence[Sequence[Any]]],
        session_rows: Sequence[Mapping[str, Any]],
        stream_rows: Sequence[Mapping[str, Any]],
        decoder_states: Mapping[str, Mapping[str, Any] | None],
        key_rows: Sequence[Mapping[str, Any]] = (),
        owned: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Make a batch visible, all of it at once or, when this raises, none.

        Events by session, sessions and streams as they stand now, what the decoders know of a stream (None: nothing any
        more), data keys, pairs of a key and a session that it keeps, and how far the log was read. Durable against the
        death of this process; after that of the machine the cursor tells how much there is.
        """
        files = {session: self._write(session, found) for session, found in rows.items() if found}
        with self.engine.begin() as db:
            for table, changed in ((sessions, session_rows), (streams, stream_rows), (keys, key_rows)):
                for row in changed:
                    _upsert(db, table, row)
            for key, session in owned:
                pair = (owners.c.key == key) & (owners.c.session == session)
                if db.scalar(select(owners.c.key).where(pair)) is None:
                    db.execute(insert(owners).values(key=key, session=session))
            for stream, state in decoder_states.items():
                if state is None:
                    db.execute(delete(states).where(states.c.id == stream))
                else:
                    _upsert(db, states, {"id": stream, "state": cbor2.dumps(state)})
            for session, path in files.items():
                first = db.scalar(select(func.coalesce(func.sum(parts.c.rows), 0)).where(_live(session)))
                count = len(rows[session])
                db.execute(insert(parts).values(session=session, path=path, first_row=first, rows=count, live=True))
            db.execute(update(cursor).where(cursor.c.name == "log").values(log_index=log_index))
        for session in files:
            self._merge(session)

    def path(self, session: str) -> Path:
        """Where a new part of a session goes."""
        folder = self.home / "events" / _folder(session)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number += 1
        return folder / f"part-{time.time_ns():020d}-{os.getpid()}-{self._number}.parquet"

    def _write(self, session: str, rows: Sequence[Sequence[Any]]) -> str:
        path = self.path(session)
        temporary = path.with_name(f".{path.name}.tmp")
        pq.write_table(to_table(rows), temporary, compression="zstd", row_group_size=65_536)
        temporary.rename(path)
        return str(path.relative_to(self.home))

    def _merge(self, session: str) -> None:
        """Put neighbours together until no run of them is due."""
        while True:
            found = self.live(session)
            run = due([part["rows"] for part in found])
            if run is None:
                break
            old = found[run]
            path = self.path(session)
            rows = merge_files([self.home / part["path"] for part in old], path)
            with self.engine.begin() as db:
                ids = [part["id"] for part in old]
                db.execute(update(parts).where(parts.c.id.in_(ids)).values(live=False, retired_ns=time.time_ns()))
                where = str(path.relative_to(self.home))
                first = old[0]["first_row"]
                db.execute(insert(parts).values(session=session, path=where, first_row=first, rows=rows, live=True))
        self.collect()

    # -- what goes -----------------------------------------------------------------------------------------------------

    def collect(self, *, everything: bool = False) -> None:
        """Remove files of parts that were replaced a while ago, when no reader can still be at them.

        `everything`: also files that the catalog does not know, as a writer that was killed or a purge leaves them.
        Raises OSError when one can't be removed.
        """
        limit = time.time_ns() - _KEEP_RETIRED_NS
        with self.engine.begin() as db:
            old = db.execute(select(parts).where(~parts.c.live, parts.c.retired_ns < limit)).mappings().all()
            for part in old:
                (self.home / part["path"]).unlink(missing_ok=True)
            if old:
                db.execute(delete(parts).where(parts.c.id.in_([part["id"] for part in old])))
            if not everything:
                return
            known = set(db.scalars(select(parts.c.path)))
        for folder in listed(self.home / "events", hidden=True):
            for path in listed(folder, hidden=True):
                if str(path.relative_to(self.home)) not in known:
                    shred(path)
            with contextlib.suppress(OSError):  # not empty; its name may be an erased session's
                folder.rmdir()

    def scrub(self) -> None:
        """Leave nothing in the catalog's files of what was deleted. Raises StoreError when somebody reads for long."""
        scrub(self.engine)


def _live(session: str) -> Any:
    return (parts.c.session == session) & parts.c.live


def _folder(session: str) -> str:
    """A folder name for a session id, which may hold anything in sessions of other recorders."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in session)[:80]
    return plain or "_"


def _upsert(db: Connection, table: Any, row: Mapping[str, Any]) -> None:
    found = db.execute(update(table).where(table.c.id == row["id"]).values(**row))
    if not found.rowcount:
        db.execute(insert(table).values(**row))
