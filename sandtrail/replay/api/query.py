"""Events of the index by what they are, who they are of, and the turn under which they stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from sandtrail.errors import UsageError
from sandtrail.replay.events import COLUMNS
from sandtrail.replay.index import Index

__all__ = ["find_events"]

_PLACE = "CAST(split_part(ref, '.', 1) AS BIGINT), CAST(split_part(ref, '.', 2) AS BIGINT)"
_ORDER = f"time_ns, {_PLACE}, n"
_CURSOR = re.compile(r"(\d{1,19}):(\d{1,15})\.(\d{1,9}):(\d{1,9})", re.A)
_KIND = re.compile(r"[a-z_]+(?:\.[a-z_]*)?(?:[-a-z_]*)", re.A)
_SHA256 = re.compile("[0-9a-f]{64}", re.A)
_CATEGORIES = {"model": "model.", "process": "process.", "file": "file.", "network": "net."}

Member = tuple[int, int, int]


def find_events(
    index: Index,
    session: str | None,
    *,
    kinds: str | None = None,
    pid: int | None = None,
    q: str | None = None,
    sha256: str | None = None,
    members: Sequence[Member] | None = None,
    after: str | None = None,
    limit: int = 500,
) -> tuple[list[dict[str, Any]], str | None]:
    """Events in order of time, and the cursor of the next page (None at the end).

    `sha256` are 64 hex digits: events that name such a digest, of a body or a part of one, of a message, of a program.
    `kinds` are kinds, beginnings of kinds that end with a dot (`file.`), or categories, separated by commas. `members`
    narrows to those events. Raises UsageError for kinds or a cursor that are none.
    """
    clauses: list[str] = []
    values: list[Any] = []
    if kinds:
        clause, found = _of_kinds(kinds)
        clauses.append(clause)
        values += found
    if pid is not None:
        clauses.append("pid = ?")
        values.append(pid)
    if q:
        fields = ("object", "process", "exe", "detail")
        clauses.append("(" + " OR ".join(f"contains(lower({name}), ?)" for name in fields) + ")")
        values += [q.lower()] * len(fields)
    if sha256:
        if not _SHA256.fullmatch(sha256.lower()):
            raise UsageError("`sha256` is 64 hex digits")
        # Details are JSON without spaces; the digits stand in no other way.
        clauses.append("contains(detail, ?)")
        values.append(f'"sha256":"{sha256.lower()}"')
    if members is not None:
        clauses.append(f"({_PLACE}, n) IN (SELECT segment, place, n FROM members)")
    if after:
        cursor = _CURSOR.fullmatch(after)
        if cursor is None or int(cursor[1]) >= 1 << 63:
            raise UsageError("`after` is not a cursor; pass the `next` of an earlier answer as it is")
        clauses.append(f"({_ORDER}) > (?, ?, ?, ?)")
        values += [int(part) for part in cursor.groups()]
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    with index.connection(session) as db:
        if members is not None:
            columns = list(zip(*members, strict=True)) or [(), (), ()]
            arrays = [pa.array(column, pa.int64()) for column in columns]
            db.register("members", pa.Table.from_arrays(arrays, names=["segment", "place", "n"]))
        rows = db.execute(
            f"SELECT {', '.join(COLUMNS)} FROM events {where} ORDER BY {_ORDER} LIMIT ?", [*values, limit + 1]
        )
        found_rows = [dict(zip(COLUMNS, row, strict=True)) for row in rows.fetchall()]
    page = found_rows[:limit]
    last = page[-1] if len(found_rows) > limit else None
    return page, f"{last['time_ns']}:{last['ref']}:{last['n']}" if last else None


def _of_kinds(kinds: str) -> tuple[str, list[str]]:
    parts, values = [], []
    for kind in kinds.split(",")[:20]:
        kind = _CATEGORIES.get(kind.strip(), kind.strip())
        if kind == "other":
            parts.append("NOT regexp_matches(kind, '^(model|process|file|dir|net|http)[.]')")
            continue
        if not _KIND.fullmatch(kind):
            raise UsageError(
                f"{kind[:40]!r} is not a kind of event; write one like file.open, or file. for all of them"
            )
        if kind in ("file.", "net."):
            parts.append("starts_with(kind, ?)")
            values.append("dir." if kind == "file." else "http.")
        parts.append("starts_with(kind, ?)" if kind.endswith(".") else "kind = ?")
        values.append(kind)
    return f"({' OR '.join(parts)})", values
