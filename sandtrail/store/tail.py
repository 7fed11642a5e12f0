"""A spool file as the sealer sees it: how far it has been taken and sealed, and what in it is no record."""

from __future__ import annotations

import os
import time
from pathlib import Path

from sandtrail.store.position import has_writer
from sandtrail.store.spool import HEADER_SIZE, MAGIC, MAX_BODY, parse_records

__all__ = ["Tail"]

# How long bytes that are no record may be one that is still being written, while their writer lives.
DAMAGED_AFTER = 5.0
# Half of what a segment holds: what does not fit into the open one is read again.
_READ = 1 << 20


class Tail:
    """One spool file. Raises FileNotFoundError when it is gone."""

    def __init__(self, path: Path, offset: int) -> None:
        self.path = path
        # Taken into the open segment; sealed by one that is closed.
        self.taken = self.sealed = offset
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._stuck_since: float | None = None

    def size(self) -> int:
        """How many bytes the file has now."""
        return os.fstat(self._fd).st_size

    def read(self, *, whole_record: bool = False) -> bytes:
        """The next bytes to take: a MiB, or as many as a record can have."""
        return os.pread(self._fd, HEADER_SIZE + MAX_BODY if whole_record else _READ, self.taken)

    def take(self, count: int) -> None:
        """Count bytes as taken."""
        self.taken += count
        self._stuck_since = None

    def unreadable(self, data: bytes, size: int) -> int:
        """How many of the next bytes, `data`, are no record and never will be; 0 while they may still become one.

        `size`: the file's size before `data` was read.
        """
        self._stuck_since = self._stuck_since or time.monotonic()
        if not has_writer(self.path):
            # Unless its writer wrote more before it ended.
            return _resynchronise(data) if self.size() == size else 0
        if time.monotonic() - self._stuck_since < DAMAGED_AFTER:
            return 0
        skip = _resynchronise(data)
        # Where nothing whole follows, it is being written, however slowly.
        return skip if skip < len(data) else 0

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def _resynchronise(data: bytes) -> int:
    """How many bytes from the start of `data` to skip until a whole record begins again."""
    at = data.find(MAGIC, 1)
    while at >= 0:
        if next(parse_records(memoryview(data)[at:]), None) is not None:
            return at
        at = data.find(MAGIC, at + 1)
    return len(data)
