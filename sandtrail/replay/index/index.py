"""Asking the index. Safe beside the follower that writes it; values always travel as bound parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine, select

from sandtrail.errors import NotFoundError, StoreError, UsageError
from sandtrail.replay.decode.decoder import RECORDER
from sandtrail.replay.events import COLUMNS, SCHEMA, Event
from sandtrail.replay.index.catalog import open_catalog
from sandtrail.replay.index.tables import cursor, keys, owners, parts, removals, sessions, streams

__all__ = ["Index"]

MAX_LIMIT = 10_000
_CHUNK = 8192
_ORDER = "time_ns, CAST(split_part(ref, '.', 1) AS BIGINT), CAST(split_part(ref, '.', 2) AS BIGINT), n"


class Index:
    """The index of one home."""

    def __init__(self, home: Path, engine: Engine | None = None) -> None:
        self.home = home
        self._engine = engine or open_catalog(home)

    def close(self) -> None:
        """Let go of the catalog; the object can be used again all the same."""
        self._engine.dispose()

    def log_index(self) -> int:
        """How many entries of the log are in the index."""
        with self._engine.connect() as db:
            return int(db.scalar(select(cursor.c.log_index).where(cursor.c.name == "log")) or 0)

    def sessions(self, limit: int = 200, before_ns: int | None = None) -> list[dict[str, Any]]:
        """Sessions, the newest first; `before_ns` pages on by their start."""
        query = select(sessions).order_by(sessions.c.started_ns.desc(), sessions.c.id).limit(min(limit, MAX_LIMIT))
        query = query.where(sessions.c.id != RECORDER)
        if before_ns is not None:
            query = query.where(sessions.c.started_ns < before_ns)
        with self._engine.connect() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def has(self, session: str) -> bool:
        """Whether there is such a session."""
        with self._engine.connect() as db:
            return db.scalar(select(sessions.c.id).where(sessions.c.id == session)) is not None

    def removals(self, limit: int = 200) -> list[dict[str, Any]]:
        """What was erased or removed, the newest first; nothing in it says of whom."""
        query = select(removals).order_by(removals.c.log_index.desc()).limit(min(limit, MAX_LIMIT))
        with self._engine.connect() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def removed_by(self, key: str) -> dict[str, Any] | None:
        """The removal that erased a data key, by the key's id as hex digits."""
        query = select(removals).join(keys, keys.c.erased == removals.c.log_index).where(keys.c.id == key)
        with self._engine.connect() as db:
            row = db.execute(query).mappings().first()
        return dict(row) if row else None

    def keys(self, session: str) -> list[dict[str, Any]]:
        """The data keys that keep frames of a session, and whether they are under hold."""
        query = select(keys).join(owners, owners.c.key == keys.c.id).where(owners.c.session == session)
        with self._engine.connect() as db:
            return [dict(row) for row in db.execute(query.order_by(keys.c.id)).mappings()]

    def session(self, session: str) -> dict[str, Any]:
        """One session; "" is the newest. Raises NotFoundError."""
        if not session:
            newest = self.sessions(limit=1)
            if not newest:
                raise NotFoundError("nothing has been recorded yet; begin with: sandtrail record -- COMMAND")
            return newest[0]
        with self._engine.connect() as db:
            row = db.execute(select(sessions).where(sessions.c.id == session)).mappings().first()
        if row is None:
            erased = "; one that was erased is not named any more" if self.removals(1) else ""
            raise NotFoundError(
                f"there is no session {session[:100]!r}{erased}; `sandtrail timeline` without one shows the newest"
            )
        return dict(row)

    def streams(self, session: str) -> list[dict[str, Any]]:
        """A session's streams in the order in which they began."""
        query = select(streams).where(streams.c.session == session).order_by(streams.c.opened_ns, streams.c.id)
        with self._engine.connect() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def stream(self, stream: str) -> dict[str, Any] | None:
        """One stream by its 16 hex digits."""
        with self._engine.connect() as db:
            row = db.execute(select(streams).where(streams.c.id == stream)).mappings().first()
        return dict(row) if row else None

    def _parts(self, session: str | None) -> list[dict[str, Any]]:
        query = select(parts).where(parts.c.live).order_by(parts.c.session, parts.c.first_row)
        if session is not None:
            query = query.where(parts.c.session == session)
        with self._engine.connect() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def rows(self, session: str, start: int = 0) -> Iterator[Event]:
        """A session's events in the order in which they were decoded, from row `start` on.

        That order is stable: a reader that has seen the first n rows asks for those from n on.
        """
        for part in self._parts(session):
            first, count = part["first_row"], part["rows"]
            if first + count <= start:
                continue
            with _unless_removed(), pq.ParquetFile(self.home / part["path"]) as file:
                for batch in file.iter_batches(_CHUNK):
                    skipped = min(max(0, start - first), batch.num_rows)
                    first += batch.num_rows
                    for values in zip(*(c.to_pylist() for c in batch.slice(skipped).columns), strict=True):
                        yield Event._make(values)

    @contextmanager
    def connection(self, session: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB connection of one's own with a view `events` over the parts that are live now.

        Raises StoreError where these were removed while they were read.
        """
        with _unless_removed(), self._connect(session) as db:
            yield db

    def _connect(self, session: str | None) -> duckdb.DuckDBPyConnection:
        # No temporary files: what a query spills would outlive the erasure of what it read.
        db = duckdb.connect(
            ":memory:", config={"autoinstall_known_extensions": False, "threads": 2, "temp_directory": ""}
        )
        files = [str(self.home / part["path"]) for part in self._parts(session)]
        if files:
            # A view cannot carry parameters; the names are ours, digits and a cleaned session id.
            quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
            db.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet([{quoted}])")
        else:
            db.register("no_events", pa.Table.from_pylist([], schema=SCHEMA))
            db.execute("CREATE VIEW events AS SELECT * FROM no_events")
        return db

    def events(
        self,
        session: str | None = None,
        *,
        kind: str | None = None,
        q: str | None = None,
        pid: int | None = None,
        refs: Sequence[str] | None = None,
        after: str | None = None,
        limit: int = 500,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Events in order of time, and a cursor for the next page (None at the end).

        `kind` is a kind or a prefix like `file.`; `q` is looked for in object, process, exe and detail, whatever the
        case; `after` is the cursor of an earlier answer. Raises UsageError for a cursor that is none.
        """
        limit = max(1, min(limit, MAX_LIMIT))
        clauses: list[str] = []
        values: list[Any] = []
        if kind:
            clauses.append("starts_with(kind, ?)" if kind.endswith(".") else "kind = ?")
            values.append(kind)
        if pid is not None:
            clauses.append("pid = ?")
            values.append(pid)
        if refs is not None:
            clauses.append("list_contains(?, ref)")
            values.append(list(refs))
        if q:
            fields = ("object", "process", "exe", "detail")
            clauses.append("(" + " OR ".join(f"contains(lower({name}), ?)" for name in fields) + ")")
            values += [q.lower()] * len(fields)
        if after:
            clauses.append(f"({_ORDER}) > (?, ?, ?, ?)")
            values += _parse_cursor(after)
        where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        with self.connection(session) as db:
            found = db.execute(
                f"SELECT * FROM events {where} ORDER BY {_ORDER} LIMIT ?", [*values, limit + 1]
            ).fetchall()
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in found[:limit]]
        more = len(found) > limit
        return rows, f"{rows[-1]['time_ns']}:{rows[-1]['ref']}:{rows[-1]['n']}" if more else None


@contextmanager
def _unless_removed() -> Iterator[None]:
    """What was erased while somebody read it is no failure of theirs."""
    try:
        yield
    except (FileNotFoundError, pa.ArrowInvalid, duckdb.IOException, duckdb.InvalidInputException) as error:
        raise StoreError(f"the index has changed while it was read, ask again ({str(error)[:200]})") from None


def _parse_cursor(text: str) -> list[int]:
    time_ns, _, rest = text.partition(":")
    ref, _, n = rest.partition(":")
    segment, _, place = ref.partition(".")
    try:
        found = [int(part) for part in (time_ns, segment, place, n)]
    except ValueError:
        found = [-1]
    if len(text) > 100 or min(found) < 0 or max(found) >= 1 << 62:
        raise UsageError("`after` is not a cursor; pass the `next` of an earlier answer as it is")
    return found
