"""The power goes at any moment, and the disk has any part of what no fsync had covered: see `faults_disk`.

A frame that was signed for is there afterwards, nothing is corrupt, and no checkpoint that anybody can have seen is
taken back. SANDTRAIL_CRASH=all looks at every moment instead of a sample.
"""

from __future__ import annotations

import filecmp
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandtrail.errors import StoreError
from sandtrail.store.sealer import Sealer
from tests.store.faults_disk import Disk
from tests.store.faults_os import NOT_STORED, Op, Trace
from tests.store.faults_work import hurried, judge, work

EVERYTHING = os.environ.get("SANDTRAIL_CRASH") == "all"
# How much survives of names and of bytes that need not: nothing, one of them, or a part of both.
FATES = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.5, 0.5))


@pytest.fixture(autouse=True)
def _hurried() -> Iterator[None]:
    with hurried():
        yield


def day(home: Path, trace: Trace) -> None:
    work(home, lambda kind, payload: trace.mark(payload) if kind == "signed" else None)


def cut(ops: list[Op], moment: int, image: Path, chance: random.Random, fate: tuple[float, float]) -> None:
    """Cut the power after some calls, start again on what the disk has, judge."""
    disk = Disk(ops[:moment])
    shutil.rmtree(image, ignore_errors=True)
    disk.leave(image, chance, names=fate[0], data=fate[1])
    seen = disk.shows("log/checkpoint")
    judge(image, [op.data for op in ops[:moment] if op.name == "mark"], [] if seen is None else [seen])


def test_the_trace_tells_all_that_was_done_to_the_files(memory: Path) -> None:
    home, image = memory / "home", memory / "image"
    with Trace(home).watching() as trace:
        day(home, trace)
    Disk(trace.ops).leave(image, random.Random(0), names=1.0, data=2.0)
    paths = sorted(path.relative_to(home) for path in home.rglob("*"))
    assert paths == sorted(path.relative_to(image) for path in image.rglob("*"))
    files = [str(path) for path in paths if (home / path).is_file()]
    assert filecmp.cmpfiles(home, image, files, shallow=False) == (files, [], [])


@pytest.mark.parametrize("seed", range(3))
def test_the_power_goes_at_any_moment(memory: Path, seed: int) -> None:
    home, chance = memory / "home", random.Random(seed)
    with Trace(home).watching() as trace:
        day(home, trace)
    moments = [(moment, fate) for moment in range(len(trace.ops) + 1) for fate in FATES]
    for moment, fate in moments if EVERYTHING else chance.sample(moments, 40):
        cut(trace.ops, moment, memory / "image", chance, fate)


@pytest.mark.parametrize("seed", range(20 if EVERYTHING else 5))
def test_the_power_goes_after_a_kill_and_a_restart(memory: Path, seed: int) -> None:
    """The second process builds upon names that the first had not synced when it died."""
    home, chance = memory / "home", random.Random(seed)
    left = chance.randrange(20, 600)

    def fault(_op: Op) -> str | None:
        nonlocal left
        left -= 1
        return NOT_STORED if left <= 0 else None

    written: list[bytes] = []
    with Trace(home, fault).watching() as trace:

        def tell(kind: str, payload: bytes) -> None:
            if kind == "written":
                written.append(payload)
            else:
                trace.mark(payload)

        with pytest.raises((OSError, StoreError, AssertionError)):
            work(home, tell)
        trace.die()
        killed_at = len(trace.ops)
        left = 1 << 30
        Sealer(home).stop()
        for payload in written:
            trace.mark(payload)
        Sealer(home).stop()
    moments = [(moment, fate) for moment in range(killed_at, len(trace.ops) + 1) for fate in FATES]
    for moment, fate in moments if EVERYTHING else chance.sample(moments, 15):
        cut(trace.ops, moment, memory / "image", chance, fate)
