"""A table in SQLite: write-ahead log, synchronous=FULL, a transaction for as many frames as our segments hold."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from itertools import islice

from bench.writers import Job, main

_AT_ONCE = 16_384


def write(job: Job) -> int:
    """The same columns as a frame has, no index but the row's number."""
    job.folder.mkdir(parents=True)
    database = sqlite3.connect(job.folder / "frames.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(
        "CREATE TABLE frames (stream INTEGER, seq INTEGER, kind INTEGER, real INTEGER, mono INTEGER, boot INTEGER, "
        "payload BLOB)"
    )
    seq = 0
    for chunk in job.chunks():
        with job.watch:
            rows = _rows(chunk, seq)
            while batch := list(islice(rows, _AT_ONCE)):
                database.execute("BEGIN")
                database.executemany("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?)", batch)
                database.execute("COMMIT")
                seq += len(batch)
    (count,) = database.execute("SELECT count(*) FROM frames").fetchone()
    database.close()
    return int(count)


def _rows(chunk: list[list[bytes]], seq: int) -> Iterator[tuple[int, int, int, int, int, int, bytes]]:
    for batch in chunk:
        when = time.time_ns(), time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for payload in batch:
            yield 7, seq, 2, *when, payload
            seq += 1


if __name__ == "__main__":
    main(write)
