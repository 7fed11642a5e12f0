"""How far the spools have been sealed: what the log's newest segment says, and what is still to come."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from sandtrail.errors import NotFoundError, RecorderError
from sandtrail.store.layout import Layout, listed, present
from sandtrail.store.manifest import Entry
from sandtrail.store.reader import LogReader, open_log
from sandtrail.store.tiles import WIDTH

__all__ = ["backwards", "has_writer", "last_positions", "last_segment", "spools", "wait_sealed"]


def spools(home: Path) -> list[Path]:
    """The spool files, a writer's older ones before its newer ones."""
    return listed(Layout(home).spool, ".spool")


def has_writer(path: Path) -> bool:
    """Whether a living process still writes to this spool file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def last_segment(reader: LogReader) -> Entry | None:
    """The newest segment's entry, searched from the log's end."""
    return next((entry for entry in backwards(reader) if entry.kind == "segment"), None)


def last_positions(reader: LogReader) -> dict[str, int]:
    """How far each spool file has been sealed, by its name: the newest segment says so, or a gap that skips bytes."""
    return next((dict(entry.map["spool"]) for entry in backwards(reader) if "spool" in entry.map), {})


def backwards(reader: LogReader) -> Iterator[Entry]:
    """Every signed entry, the newest first."""
    stop = reader.size()
    while stop:
        start = (stop - 1) // WIDTH * WIDTH
        yield from reversed(list(reader.entries(start, stop)))
        stop = start


def wait_sealed(home: Path, timeout: float = 30.0) -> None:
    """Return once every frame that is in a spool now is in a signed segment.

    Raises RecorderError when that takes longer than `timeout` seconds; the frames then stay in the spool.
    """
    wanted = {path.name: _size(path) for path in spools(home)}
    deadline = time.monotonic() + timeout
    while True:
        done: dict[str, int] = {}
        with contextlib.suppress(NotFoundError):
            done = last_positions(open_log(home))
        missing = {
            name: size - done.get(name, 0)
            for name, size in wanted.items()
            if done.get(name, 0) < size and present(Layout(home).spool / name)
        }
        if not missing:
            return
        if time.monotonic() > deadline:
            raise RecorderError(
                f"{sum(missing.values())} bytes are still unsealed after {timeout:.0f} s; they are kept in "
                f"{Layout(home).spool} and the recorder seals them when it runs again: sandtrail up"
            )
        time.sleep(0.05)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
