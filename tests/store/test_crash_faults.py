"""Each cell of the fault table: the call fails, the process dies of it, `verify` judges, and a new recorder goes on."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from functools import cache
from pathlib import Path

import pytest

from sandtrail.errors import StoreError
from tests.parts import CHECKOUT
from tests.store.faults import STEPS, Step, step_of, table
from tests.store.faults_os import NOT_STORED, STORED, Op, Trace
from tests.store.faults_work import hurried, judge, work

_CODES = (errno.EIO, errno.ENOSPC, errno.EROFS)
_CUT = next(step for step in STEPS if step.calls.startswith("truncate"))


class Fault:
    """Fails the `number`-th call of a step; to have a spool cut back, the write before it has to fail as well."""

    def __init__(self, step: Step, number: int, how: str) -> None:
        self._step, self._left, self._how = step, number, how
        self._write = next(one for one in STEPS if one.calls.startswith("write spool")) if step is _CUT else None
        self.happened = False

    def __call__(self, op: Op) -> str | None:
        step = step_of(op)
        if self._write is not None and step is self._write:
            self._left -= 1
            if self._left < 0:
                self._write = None
                return STORED
        elif step is self._step and not self.happened:
            self._left -= 1
            if self._left < 0:
                self.happened = True
                return self._how
        return None


def run(home: Path, fault: Fault, code: int) -> tuple[list[bytes], bool]:
    """The day in a process of its own, up to the fault that ends it: what was promised, and whether it came to that."""
    reading, writing = os.pipe()

    def tell(_kind: str, payload: bytes) -> None:
        os.write(writing, payload + b"\n")

    pid = os.fork()
    if not pid:
        os.close(reading)
        status = 1
        try:
            with Trace(home, fault, code).watching():
                work(home, tell)
            status = 0
        except (OSError, StoreError):
            status = 0
        finally:
            os.write(writing, b"happened" if fault.happened else b"")
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        *promised, last = pipe.read().split(b"\n")
    _, status = os.waitpid(pid, 0)
    assert status == 0, "it did not end of the fault, but of something else"
    return promised, last == b"happened"


@pytest.mark.parametrize("how", [NOT_STORED, STORED])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name.replace(" ", "-"))
def test_a_step_that_fails_costs_no_promised_frame_and_corrupts_nothing(memory: Path, step: Step, how: str) -> None:
    with hurried():
        for number in _chosen(step):
            home = memory / str(number)
            promised, happened = run(home, Fault(step, number, how), _CODES[number % len(_CODES)])
            assert happened, f"{step.name} does not come {number + 1} times"
            judge(home, promised)


@cache
def _calls() -> list[Op]:
    """Every call of a day without faults."""
    with tempfile.TemporaryDirectory() as folder, hurried(), Trace(Path(folder) / "home").watching() as trace:
        work(Path(trace.home), lambda _kind, _payload: None)
    return trace.ops


def _chosen(step: Step) -> list[int]:
    """Which of a step's calls to fail: the first, and another one."""
    caused_by = next(one for one in STEPS if one.calls.startswith("write spool")) if step is _CUT else step
    count = sum(step_of(op) is caused_by for op in _calls())
    assert count, f"{step.name} does not happen at all"
    return sorted({0, random.Random(step.name).randrange(count)})


def test_no_call_upon_the_stores_files_is_without_a_row() -> None:
    assert [op[:3] for op in _calls() if op.name != "mark" and step_of(op) is None] == []


def test_the_documented_table_is_this_one() -> None:
    assert table() in (CHECKOUT / "docs" / "crash-safety.md").read_text()
