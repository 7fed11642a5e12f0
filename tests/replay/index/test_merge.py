"""Parts of an index are merged so that there are few of them and each row is written seldom."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.replay.events import Event, to_table
from sandtrail.replay.index.merge import SIZES, due, merge_files

LARGE = SIZES[-1]


def run(batches: list[int]) -> tuple[list[int], int]:
    """(sizes of the parts, rows written) after these batches came one by one."""
    parts: list[int] = []
    written = 0
    for rows in batches:
        parts.append(rows)
        written += rows
        while (found := due(parts)) is not None:
            merged = sum(parts[found])
            parts[found] = [merged]
            written += merged
    return parts, written


@given(st.lists(st.integers(1, 10) | st.integers(1, 200_000), max_size=400))
def test_nothing_is_lost_and_order_is_kept(batches: list[int]) -> None:
    parts, _ = run(batches)
    assert sum(parts) == sum(batches)
    ends = {sum(batches[:n]) for n in range(len(batches) + 1)}
    assert all(sum(parts[:n]) in ends for n in range(len(parts) + 1))


@given(st.integers(1, 2000), st.integers(1, 3000))
def test_of_even_batches_there_are_few_parts(rows: int, batches: int) -> None:
    parts, _ = run([rows] * batches)
    assert sum(size < LARGE for size in parts) <= 8 * len(SIZES)
    assert len(parts) <= 8 * len(SIZES) + rows * batches // LARGE


@given(st.lists(st.sampled_from([1, 3, 7, 60, 500, 3000, 40_000]), max_size=1500))
def test_of_any_batches_there_are_few_parts_and_a_row_is_written_once_a_size(batches: list[int]) -> None:
    parts, written = run(batches)
    assert sum(size < LARGE for size in parts) <= 8 * 8 * len(SIZES)
    assert written <= (1 + len(SIZES)) * sum(batches)


@given(st.lists(st.integers(LARGE, 10**6), max_size=50))
def test_large_parts_are_left_alone(batches: list[int]) -> None:
    assert run(batches) == (batches, sum(batches))


def test_files_are_put_together_in_order(tmp_path: Path) -> None:
    files = []
    for part in range(3):
        path = tmp_path / f"{part}.parquet"
        pq.write_table(to_table([Event(ref=f"{part}.{n}", uid=None if n % 2 else n) for n in range(5)]), path)
        files.append(path)
    target = tmp_path / "all.parquet"
    assert merge_files(files, target) == 15
    table = pq.read_table(target)
    assert table.column("ref").to_pylist() == [f"{part}.{n}" for part in range(3) for n in range(5)]
    assert table.column("uid").to_pylist()[:5] == [0, None, 2, None, 4]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
