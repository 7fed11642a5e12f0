"""A writer and a sealer as processes of their own, and what they have come to."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sandtrail.errors import SandtrailError
from tests.parts import CHECKOUT
from tests.store.faults_work import survived
from tests.store.faults_writer import payload

SIZE = 500


def eventually[T](condition: Callable[[], T], seconds: float = 60.0) -> T:
    """Wait until something holds; returns it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.005)
    return found


def signed(home: Path) -> set[bytes]:
    """The payloads that are signed for now; none where that can't be told, since a sealer is at work."""
    with contextlib.suppress(SandtrailError, OSError):
        return survived(home)
    return set()


class Processes:
    """A writer and a sealer that is started again whenever it ends, as the keeper does; what the writer was told."""

    def __init__(self, home: Path, said: Path, count: int, patience: int, name: str) -> None:
        self._home, self._said, self._name = home, said, name
        with said.open("ab") as out:
            numbers = (str(count), str(SIZE), str(patience), "0.002")
            self.writer = self._start("tests.store.faults_writer", str(home), name, *numbers, out=out.fileno())
        self.sealer = self._start("sandtrail.store.sealer", "--home", str(home))
        self.ended: list[int] = []

    def _start(self, module: str, *arguments: str, out: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.Popen(command, cwd=CHECKOUT, stdout=out, stderr=subprocess.DEVNULL)

    def keep(self) -> None:
        """Start the sealer again if it has ended."""
        status = self.sealer.poll()
        if status is not None:
            self.ended.append(status)
            self.sealer = self._start("sandtrail.store.sealer", "--home", str(self._home))

    def lines(self) -> list[bytes]:
        return self._said.read_bytes().split(b"\n")[:-1]

    def acknowledged(self) -> list[bytes]:
        return [payload(self._name, int(line), SIZE) for line in self.lines() if line.isdigit()]

    def kill(self) -> None:
        for process in (self.writer, self.sealer):
            process.kill()
            process.wait()


@contextlib.contextmanager
def processes(
    home: Path, said: Path, count: int = 1_000_000, patience: int = 0, name: str = "w"
) -> Iterator[Processes]:
    running = Processes(home, said, count, patience, name)
    try:
        yield running
    finally:
        running.kill()
