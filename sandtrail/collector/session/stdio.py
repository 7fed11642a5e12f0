"""The three files that the recorded command gets: ours, except where one is a regular file.

The sandbox keeps an offset of its own for every file that it is handed. If our output goes to a regular file, what the
command writes and what we write would overwrite each other there, so the command gets a pipe and its bytes are copied.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading

__all__ = ["Stdio"]

_PATIENCE_S = 5.0


class Stdio:
    """A context manager; `fds` is (stdin, stdout, stderr). Call `handed_over` when the command has them. On leaving,
    what the command wrote has reached our files; the sandbox has to be gone by then."""

    def __init__(self) -> None:
        self._copies: list[threading.Thread] = []
        self._ends: list[int] = []
        self.fds = (0, self._output(1), self._output(2))

    def _output(self, fd: int) -> int:
        try:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
        except OSError:
            return fd
        if not regular:
            return fd
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        thread = threading.Thread(target=_copy, args=(ours, fd), name=f"copy-{fd}", daemon=True)
        thread.start()
        self._copies.append(thread)
        self._ends.append(theirs)
        return theirs

    def handed_over(self) -> None:
        """Let go of our copies of the command's ends."""
        while self._ends:
            os.close(self._ends.pop())

    def __enter__(self) -> Stdio:
        return self

    def __exit__(self, *_: object) -> None:
        self.handed_over()
        for thread in self._copies:
            thread.join(_PATIENCE_S)


def _copy(source: int, target: int) -> None:
    with contextlib.suppress(OSError):  # our file is full or gone: the command must not stall on it
        while data := os.read(source, 1 << 16):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    with contextlib.suppress(OSError):
        while os.read(source, 1 << 16):
            pass
    os.close(source)
