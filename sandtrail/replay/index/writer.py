"""Writing the index: a batch of events becomes Parquet files, and they become visible with everything that goes with
them in one transaction of the catalog. Small files are merged, so that a long session does not become thousands."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from sandtrail.replay.events import SCHEMA, to_table
from sandtrail.replay.index.tables import cursor, parts, sessions, streams

__all__ = ["IndexWriter"]

_MERGE_AT = 8
_MERGE_ROWS = (2_000, 20_000, 200_000, 1_000_000)
_KEEP_RETIRED_NS = 120 * 10**9


class IndexWriter:
    """The one writer of an index (the follower's lock sees to that)."""

    def __init__(self, home: Path, engine: Engine) -> None:
        self._home = home
        self._engine = engine
        self._number = 0

    def position(self, decoder: int) -> int:
        """The log index to go on from; everything is dropped where another version of the decoders made it."""
        with self._engine.begin() as db:
            row = db.execute(select(cursor).where(cursor.c.name == "log")).mappings().first()
            if row is not None and row["decoder"] == decoder:
                return int(row["log_index"])
            for table in (parts, streams, sessions, cursor):
                db.execute(delete(table))
            db.execute(insert(cursor).values(name="log", log_index=0, decoder=decoder))
        self.collect(everything=True)
        return 0

    def unfinished(self) -> dict[str, int]:
        """Sessions that had not ended: id -> the log entry in which they begin."""
        with self._engine.connect() as db:
            rows = db.execute(select(sessions.c.id, sessions.c.first_entry).where(sessions.c.state == "recording"))
            return {row.id: row.first_entry for row in rows}

    def forget(self, ids: Sequence[str]) -> None:
        """Drop what is derived of these sessions, to derive it again."""
        with self._engine.begin() as db:
            for table in (parts, streams):
                db.execute(delete(table).where(table.c.session.in_(ids)))
            db.execute(delete(sessions).where(sessions.c.id.in_(ids)))
        self.collect(everything=True)

    def commit(
        self,
        log_index: int,
        rows: Mapping[str, Sequence[Sequence[Any]]],
        session_rows: Sequence[Mapping[str, Any]],
        stream_rows: Sequence[Mapping[str, Any]],
    ) -> None:
        """Make a batch visible, all of it at once: events by session, sessions and streams as they stand now.

        `session_rows` carry everything but the counts of rows. Durable against the death of this process; after that of
        the machine the cursor tells how much there is.
        """
        files = {session: self._write(session, to_table(found)) for session, found in rows.items() if found}
        with self._engine.begin() as db:
            for row in session_rows:
                _upsert(db, sessions, row)
            for row in stream_rows:
                _upsert(db, streams, row)
            for session, path in files.items():
                first = db.scalar(select(func.coalesce(func.sum(parts.c.rows), 0)).where(_live(session)))
                count = len(rows[session])
                db.execute(insert(parts).values(session=session, path=path, first_row=first, rows=count, live=True))
            db.execute(update(cursor).where(cursor.c.name == "log").values(log_index=log_index))
        for session in files:
            self._merge(session)

    def _write(self, session: str, table: pa.Table) -> str:
        folder = self._home / "events" / _folder(session)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._number += 1
        name = f"part-{time.time_ns():020d}-{os.getpid()}-{self._number}.parquet"
        temporary = folder / f".{name}.tmp"
        pq.write_table(table, temporary, compression="zstd", row_group_size=65_536)
        temporary.rename(folder / name)
        return str((folder / name).relative_to(self._home))

    def _merge(self, session: str) -> None:
        """Merge runs of eight neighbours of about one size, the smallest sizes first."""
        for limit in _MERGE_ROWS:
            with self._engine.connect() as db:
                found = db.execute(select(parts).where(_live(session)).order_by(parts.c.first_row)).mappings().all()
            run: list[Any] = []
            for part in reversed(found):
                if part["rows"] >= limit:
                    break
                run.insert(0, part)
            if len(run) < _MERGE_AT:
                continue
            table = pa.concat_tables([pq.read_table(self._home / part["path"], schema=SCHEMA) for part in run])
            path = self._write(session, table)
            with self._engine.begin() as db:
                ids = [part["id"] for part in run]
                db.execute(update(parts).where(parts.c.id.in_(ids)).values(live=False, retired_ns=time.time_ns()))
                first, rows = run[0]["first_row"], table.num_rows
                db.execute(insert(parts).values(session=session, path=path, first_row=first, rows=rows, live=True))
        self.collect()

    def collect(self, *, everything: bool = False) -> None:
        """Remove files of parts that were replaced a while ago, when no reader can still be at them.

        `everything`: also files that the catalog does not know, as a writer that was killed leaves them.
        """
        limit = time.time_ns() - _KEEP_RETIRED_NS
        with self._engine.begin() as db:
            old = db.execute(select(parts).where(~parts.c.live, parts.c.retired_ns < limit)).mappings().all()
            for part in old:
                (self._home / part["path"]).unlink(missing_ok=True)
            db.execute(delete(parts).where(parts.c.id.in_([part["id"] for part in old])))
            if not everything:
                return
            known = set(db.scalars(select(parts.c.path)))
        for path in (self._home / "events").glob("*/*"):
            if str(path.relative_to(self._home)) not in known:
                with contextlib.suppress(OSError):
                    path.unlink()


def _live(session: str) -> Any:
    return (parts.c.session == session) & parts.c.live


def _folder(session: str) -> str:
    """A folder name for a session id, which may hold anything in sessions of other recorders."""
    plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in session)[:80]
    return plain or "_"


def _upsert(db: Connection, table: Any, row: Mapping[str, Any]) -> None:
    found = db.execute(update(table).where(table.c.id == row["id"]).values(**row))
    if not found.rowcount:
        db.execute(insert(table).values(**row))
