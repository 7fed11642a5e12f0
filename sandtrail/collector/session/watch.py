"""Waits for the recorded command to end, and meanwhile for everything else that may happen to it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Signals", "Watch"]

_GRACE_S = 5.0
_CHECK_S = 2.0


class Signals:
    """Collects SIGINT, SIGTERM and SIGHUP instead of dying of them; `pending` empties the list.

    Only the main thread of a process can take signals over; elsewhere nothing is collected.
    """

    def __init__(self) -> None:
        self._caught: list[signal.Signals] = []
        self._before: dict[signal.Signals, object] = {}
        self.wake, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Signals:
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned
        os.close(self.wake)
        os.close(self._write)

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        self._caught.append(signal.Signals(number))
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")

    def pending(self) -> list[signal.Signals]:
        """What has come since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)
        caught, self._caught = self._caught, []
        return caught


class Watch:
    """`waiting` ends with the command. `kill(name)` sends a signal to it. `check()` is called every two seconds."""

    def __init__(
        self,
        waiting: subprocess.Popen[str],
        sentry: int,
        signals: Signals,
        kill: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:
        self._waiting = waiting
        self._sentry = sentry
        self._signals = signals
        self._kill = kill
        self._check = check
        self._deadline: float | None = None
        self.interrupted = False

    def run(self) -> bool:
        """Returns True when the command ended by itself or by a signal that was passed on, False when the sentry died
        under it."""
        with _pidfd(self._waiting.pid) as waiting, _pidfd(self._sentry) as sentry:
            files = [fd for fd in (waiting, sentry, self._signals.wake) if fd is not None]
            next_check = time.monotonic() + _CHECK_S
            while True:
                until = min(next_check, self._deadline or next_check)
                ready, _, _ = select.select(files, [], [], max(0.0, until - time.monotonic()))
                for number in self._signals.pending():
                    self._pass_on(number)
                if waiting is None or waiting in ready:
                    return True
                if sentry is None or sentry in ready:
                    return False
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self._deadline = None
                    self._kill("KILL")
                if time.monotonic() >= next_check:
                    self._check()
                    next_check = time.monotonic() + _CHECK_S

    def _pass_on(self, number: signal.Signals) -> None:
        """The first interrupt is the command's own; a second one, or time after a request to terminate, ends it."""
        if self.interrupted:
            self._kill("KILL")
            return
        self.interrupted = True
        self._kill(number.name.removeprefix("SIG"))
        if number != signal.SIGINT:
            self._deadline = time.monotonic() + _GRACE_S


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)
