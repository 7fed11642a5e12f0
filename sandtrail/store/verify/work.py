"""Spreads the segments of a verification over the cores.

Hashing stored bytes lets go of the interpreter's lock, so threads will do. Rebuilding frames does not: each thread then
talks to a process of its own (`main`) over its standard input and output. A process that is killed is started again; a
batch that three of them do not survive ends the verification with an error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import cbor2

from sandtrail.errors import StoreError
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.heap import keep_freed_memory
from sandtrail.store.verify.segment import Outcome, check_segment

__all__ = ["Done", "Work", "cores"]

# Up to so many bytes the work is done here: starting processes takes longer, and starting threads a little.
_HERE = 8 << 20
_BATCH = 4 << 20
_SMALL = 4
_LIVES = 3
_LENGTH = struct.Struct("<I")


class Done(NamedTuple):
    """A batch that has been worked on, and the label that it was given."""

    label: int
    outcomes: list[Outcome]


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) or 1


class Work:
    """Takes manifests, gives back outcomes, in any order. To be used in a `with`, which ends its threads."""

    def __init__(self, home: Path, *, deep: bool, jobs: int = 0) -> None:
        """`jobs`: how many at once; 0: one for each core."""
        self._home = home
        self._deep = deep
        self._jobs = jobs or cores()
        self._keys = DataKeys(home)
        self._batch: list[dict[str, Any]] = []
        self._cost = self._here = 0
        self._threads: list[threading.Thread] = []
        self._waiting: Queue[tuple[int, list[dict[str, Any]]] | None] = Queue(maxsize=2 * self._jobs)
        self._ready: Queue[Done | Exception] = Queue()
        self._open = 0
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        while True:  # what still waits is not wanted any more
            try:
                self._waiting.get_nowait()
            except Empty:
                break
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def add(self, label: int, manifest: dict[str, Any]) -> Iterator[Done]:
        """Take a segment; yields what is done meanwhile. Batches hold segments of one label only if flushed between."""
        self._batch.append(manifest)
        self._cost += manifest["raw"] if self._deep else manifest["size"]
        if self._cost >= (_BATCH if self._deep else _BATCH // _SMALL):
            yield from self.flush(label)

    def flush(self, label: int) -> Iterator[Done]:
        """Begin the work on what has been taken; yields what is done meanwhile."""
        batch, cost, self._batch, self._cost = self._batch, self._cost, [], 0
        if batch:
            self._here += cost
            if self._jobs == 1 or self._here <= (_HERE if self._deep else _HERE // _SMALL):
                yield Done(label, _check(self._home, self._keys, batch, self._deep))
                return
            if not self._threads:
                self._start()
            self._waiting.put((label, batch))
            self._open += 1
        yield from self.ready()

    def ready(self) -> Iterator[Done]:
        """Yields what is done so far."""
        while not self._ready.empty():
            yield self._take()

    def finish(self) -> Iterator[Done]:
        """Yields all that is still open."""
        while self._open:
            yield self._take()

    def _take(self) -> Done:
        done = self._ready.get()
        self._open -= 1
        if isinstance(done, Exception):
            raise done
        return done

    def _start(self) -> None:
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self._jobs)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        helper = _Helper(self._home) if self._deep else None
        try:
            while (task := self._waiting.get()) is not None:
                label, batch = task
                try:
                    outcomes = helper.ask(batch) if helper else _check(self._home, self._keys, batch, deep=False)
                    self._ready.put(Done(label, outcomes))
                except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to the one who waits
                    self._ready.put(error)
        finally:
            if helper:
                helper.stop()


def _check(home: Path, keys: DataKeys, batch: Iterable[dict[str, Any]], deep: bool) -> list[Outcome]:
    return [check_segment(home, manifest, keys, deep) for manifest in batch]


class _Helper:
    """A process that checks batches, and its successors."""

    def __init__(self, home: Path) -> None:
        # -P: a folder that we happen to stand in must not bring modules of its own.
        self._command = [sys.executable, "-P", "-c", f"import {__name__} as work; work.main()", str(home)]
        self._process = self._begin()

    def _begin(self) -> subprocess.Popen[bytes]:
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        return subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        )

    def ask(self, batch: list[dict[str, Any]]) -> list[Outcome]:
        message = cbor2.dumps(batch)
        for _ in range(_LIVES):
            stdin, stdout = self._process.stdin, self._process.stdout
            assert stdin is not None
            assert stdout is not None
            try:
                _send(stdin, message)
                answer = _receive(stdout)
            except OSError:
                answer = None
            if answer is not None:
                return [Outcome(*fields) for fields in cbor2.loads(answer)]
            self.stop()
            died = self._process.returncode
            self._process = self._begin()
        first, last = batch[0]["segment"], batch[-1]["segment"]
        raise StoreError(
            f"{_LIVES} helpers in a row have died (status {died}) over segments {first} to {last}; is there enough "
            "memory? Try again with --jobs 1"
        )

    def stop(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # it is gone, and with it what was not written yet
                pipe.close()
        self._process.kill()
        self._process.wait()


def _send(to: IO[bytes], message: bytes) -> None:
    to.write(_LENGTH.pack(len(message)) + message)
    to.flush()


def _receive(source: IO[bytes]) -> bytes | None:
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    message = source.read(length)
    return message if len(message) == length else None


def main() -> None:
    """Check batches until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks
    keep_freed_memory()
    home = Path(sys.argv[1])
    keys = DataKeys(home)
    while (message := _receive(sys.stdin.buffer)) is not None:
        outcomes = _check(home, keys, cbor2.loads(message), deep=True)
        _send(sys.stdout.buffer, cbor2.dumps([list(outcome) for outcome in outcomes]))
