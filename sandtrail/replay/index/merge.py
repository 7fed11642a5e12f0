"""Which parts of a session are put together, and how.

Parts come a few a second and small. Neighbours of one size class are merged eight at a time, so a row is written a few
times in all, and a session of n rows has about 8 * log8(n) parts until they are large enough to be left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from sandtrail.replay.events import SCHEMA

__all__ = ["due", "merge_files"]

_CLASSES: Final = (1_000, 10_000, 100_000)
"""A part of at least the last of these stays as it is: merging larger ones would keep the follower for seconds."""
_AT: Final = 8
_ROW_GROUP: Final = 65_536


def due(sizes: Sequence[int]) -> slice | None:
    """The newest run of parts (by their rows, the oldest first) that should become one; None where none is due."""
    for limit in _CLASSES:
        first = len(sizes)
        while first and sizes[first - 1] < limit:
            first -= 1
        if len(sizes) - first >= _AT:
            return slice(first, len(sizes))
    return None


def merge_files(files: Sequence[Path], target: Path) -> int:
    """Write the rows of `files`, in their order, to `target`; returns how many. At most one row group is in memory."""
    temporary = target.with_name(f".{target.name}.tmp")
    rows = 0
    with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for file in files:
            with pq.ParquetFile(file) as source:
                for batch in source.iter_batches(_ROW_GROUP):
                    writer.write_batch(batch)
                    rows += batch.num_rows
    temporary.rename(target)
    return rows
