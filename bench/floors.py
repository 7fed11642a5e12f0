"""What no verification can be faster than, on all cores: `python -m bench.floors HOME files|trees`.

Threads and processes are started before the clock; the clock of `trees` leaves out reading the frames.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandtrail.store.leaves import record_leaves
from sandtrail.store.merkle import tree_root
from sandtrail.store.reader import open_log
from sandtrail.store.segments import open_segment

_AT_ONCE = 16


def files(home: Path) -> tuple[float, int]:
    """Seconds of plain SHA-256 over the evidence's files, and how many files. In threads: hashing a file leaves the
    interpreter to the others, and a process would cost more than it gives."""
    paths = sorted(path for name in ("segments", "log") for path in (home / name).rglob("*") if path.is_file())
    with ThreadPoolExecutor(_cores()) as pool:
        list(pool.map(_nothing, range(_cores())))
        begin = time.perf_counter()
        list(pool.map(_digest, paths))
        return time.perf_counter() - begin, len(paths)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _nothing(_: int) -> None:
    time.sleep(0.01)


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def trees(home: Path) -> tuple[float, int]:
    """Seconds to hash every frame's leaf and every segment's tree, and how many frames: the time that all processes
    together spend on it, by their number, since all of them are busy with nothing else or with reading meanwhile."""
    manifests = [entry.map for entry in open_log(home).entries() if entry.kind == "segment"]
    work = [(home, manifest) for manifest in manifests]
    with multiprocessing.get_context("fork").Pool(_cores()) as pool:
        done = pool.starmap(_tree, work, chunksize=_AT_ONCE)
    return sum(seconds for seconds, _ in done) / _cores(), sum(frames for _, frames in done)


def _tree(home: Path, manifest: dict[str, object]) -> tuple[float, int]:
    segment = open_segment(home, manifest)
    salts = segment.salts()
    begin = time.perf_counter()
    root = tree_root(record_leaves(segment.raw, salts))
    seconds = time.perf_counter() - begin
    assert root == manifest["root"]
    return seconds, segment.count


def main() -> None:
    """Print one JSON object."""
    home, what = Path(sys.argv[1]), sys.argv[2]
    seconds, count = {"files": files, "trees": trees}[what](home)
    print(json.dumps({"seconds": seconds, "frames" if what == "trees" else "files": count}))


if __name__ == "__main__":
    main()
