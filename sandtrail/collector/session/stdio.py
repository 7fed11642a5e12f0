"""The three files that the recorded command gets: ours, except where one is a regular file, or all are recorded.

The sandbox keeps an offset of its own for every file that it is handed. If our output goes to a regular file, what the
command writes and what we write would overwrite each other there, so the command gets a pipe and its bytes are copied.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading

from sandtrail.collector.session.relay import NAMES, PIECE, Record

__all__ = ["Stdio"]

_PATIENCE_S = 5.0


class Stdio:
    """A context manager; `fds` is (stdin, stdout, stderr). Call `handed_over` when the command has them. On leaving,
    what the command wrote has reached our files; the sandbox has to be gone by then. With a `record` all three are
    pipes, and their bytes are recorded on the way."""

    def __init__(self, record: Record | None = None) -> None:
        self._copies: list[threading.Thread] = []
        self._ends: list[int] = []
        self._record = record
        self.fds = (0 if record is None else self._input(record), self._output(1), self._output(2))

    def _input(self, record: Record) -> int:
        theirs, ours = os.pipe2(os.O_CLOEXEC)
        # Nobody waits for this one: it may stand in a read of ours for ever.
        threading.Thread(target=_copy, args=(0, ours, record, NAMES[0]), name="copy-0", daemon=True).start()
        self._ends.append(theirs)
        return theirs

    def _output(self, fd: int) -> int:
        try:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
        except OSError:
            return fd
        if not regular and self._record is None:
            return fd
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        given = (ours, fd, self._record, NAMES[fd])
        thread = threading.Thread(target=_copy, args=given, name=f"copy-{fd}", daemon=True)
        thread.start()
        self._copies.append(thread)
        self._ends.append(theirs)
        return theirs

    def handed_over(self) -> None:
        """Let go of our copies of the command's ends."""
        while self._ends:
            os.close(self._ends.pop())

    def finish(self) -> None:
        """The sandbox is gone: wait for what it wrote, and end the record of it."""
        self.handed_over()
        for thread in self._copies:
            thread.join(_PATIENCE_S)
        if self._record is not None:
            self._record.close()

    def __enter__(self) -> Stdio:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()


def _copy(source: int, target: int, record: Record | None, name: str) -> None:
    with contextlib.suppress(OSError):  # our file is full or gone: the command must not stall on it
        while data := _read(source, record, name):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    if name == NAMES[0]:
        # The command has read all there is, or reads no more.
        os.close(target)
        if record is not None:
            record.end(name)
        return
    with contextlib.suppress(OSError):
        while _read(source, record, name):
            pass
    os.close(source)
    if record is not None:
        record.end(name)


def _read(source: int, record: Record | None, name: str) -> bytes:
    data = os.read(source, PIECE)
    if data and record is not None:
        record.piece(name, data)
    return data
