"""Which parts of a session are put together, and how.

Parts come a few a second and small. For each size, the newest parts below it are merged once they make up that size and
are eight or more: so a row is written once a size, and a session has a few dozen parts besides the large ones, which
are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from sandtrail.replay.events import SCHEMA

__all__ = ["SIZES", "due", "merge_files"]

SIZES: Final = (8, 64, 512, 4_096, 32_768, 131_072)
"""In rows. Merging parts larger than the last would keep the follower for seconds."""
_AT: Final = 8
_ROW_GROUP: Final = 65_536


def due(sizes: Sequence[int]) -> slice | None:
    """The newest run of parts (by their rows, the oldest first) that should become one; None where none is due."""
    for limit in SIZES:
        first, rows = len(sizes), 0
        while first and sizes[first - 1] < limit:
            first -= 1
            rows += sizes[first]
        if rows >= limit and len(sizes) - first >= _AT:
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
