"""Who makes frames durable: one program a writer, `python -m bench.writers.NAME FOLDER COUNT [CHUNK]`.

Each is pinned to one core unless told otherwise, makes its payloads before the clock runs, and prints one JSON object:
`frames` that are durable (counted in what was stored, not in what was handed over), `seconds` from the first frame
handed over until the last is durable, `cpu_s` of them spent computing, `rss_mib` at most.

Standard library only: not every writer runs in our environment.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import batched
from pathlib import Path

from bench.payloads import BATCH, batches

__all__ = ["Job", "Stopwatch", "main"]


class Stopwatch:
    """Runs inside of `with`, adds up."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0

    def __enter__(self) -> None:
        self._begin, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._begin
        self.cpu += time.process_time() - self._cpu


@dataclass(frozen=True)
class Job:
    """What to write, and where to."""

    folder: Path
    count: int
    chunk: int
    watch: Stopwatch

    def chunks(self) -> Iterator[list[list[bytes]]]:
        """Batches of payloads; those of one chunk are in memory together."""
        for chunk in batched(batches(self.count), self.chunk // BATCH):
            made = list(chunk)
            # What the bench has made is not the writer's to go through each time that it collects garbage.
            gc.freeze()
            yield made


def main(write: Callable[[Job], int]) -> None:
    """Run one writer as a program; `write` returns the number of frames that it finds stored."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("chunk", type=int, nargs="?", default=1 << 30, help="frames in memory at once")
    parser.add_argument("--core", type=int, help="run on this core only")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    watch = Stopwatch()
    frames = write(Job(options.folder, options.count, max(options.chunk, BATCH), watch))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"frames": frames, "seconds": watch.seconds, "cpu_s": watch.cpu, "rss_mib": peak}))
