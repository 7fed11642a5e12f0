"""What a process does to the files of one home, seen and disturbed from inside it: a shim over `os`.

Every call that changes a file or a folder below the home is written down (`Trace.ops`), so that `faults_disk` can say
what a power cut may leave of it, and may be made to fail in either of two ways: without having happened, or although it
has. The store opens and changes files with `os` alone; `test_crash_power` holds the trace against the real folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NOT_STORED = "failed and not stored"
STORED = "failed but stored"


class Op(NamedTuple):
    """One call. `path` and `to` are relative to the home; `node` tells files of one name apart."""

    name: str
    path: str
    to: str = ""
    node: int = 0
    at: int = 0
    data: bytes = b""


@contextmanager
def unreadable(which: Callable[[Path], bool]) -> Iterator[None]:
    """A disk that does not say whether these paths are there, nor what is in them."""

    def refuse(real: Callable[..., Any], path: Any = ".", *args: Any, **more: Any) -> Any:
        if not isinstance(path, int) and which(Path(os.fsdecode(path))):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(path, *args, **more)

    with pytest.MonkeyPatch.context() as patched:
        for name in ("stat", "lstat", "listdir", "scandir"):
            patched.setattr(os, name, partial(refuse, getattr(os, name)))
        yield


class Trace:
    """The calls so far. `fault(op)` says how a call is to fail, or None."""

    def __init__(self, home: Path, fault: Callable[[Op], str | None] = lambda _op: None, code: int = errno.EIO) -> None:
        self.home = str(home)
        self.ops: list[Op] = []
        self._fault = fault
        self._code = code
        self._open: dict[int, int] = {}
        self._nodes: dict[str, int] = {}
        # The newest name of each file; an open file goes by it.
        self._named: dict[int, str] = {}
        self._next = 1

    def mark(self, data: bytes) -> None:
        """Note what somebody was told at this moment."""
        self.ops.append(Op("mark", "", data=data))

    def die(self) -> None:
        """Close what is open, as the kernel does for a process that was killed; locks go with it."""
        for link in list(Path("/proc/self/fd").iterdir()):
            with contextlib.suppress(FileNotFoundError):  # the folder that we were just listing
                if link.readlink().is_relative_to(self.home):
                    os.close(int(link.name))

    def _inside(self, path: Any) -> str | None:
        if isinstance(path, int):
            return self._named.get(self._open.get(path, 0))
        text = os.fspath(path)
        if isinstance(text, str) and (text == self.home or text.startswith(f"{self.home}/")):
            return text[len(self.home) + 1 :] or "."
        return None

    def _do(self, op: Op, real: Callable[[], Any]) -> Any:
        fault = self._fault(op)
        if fault == NOT_STORED:
            raise OSError(self._code, os.strerror(self._code), op.path)
        result = real()
        self.ops.append(op)
        if fault == STORED:
            raise OSError(self._code, os.strerror(self._code), op.path)
        return result

    def node(self, name: str) -> int:
        """The number of the file that has this name now."""
        if name not in self._nodes:
            self._nodes[name], self._next = self._next, self._next + 1
            self._named[self._nodes[name]] = name
        return self._nodes[name]

    # -- the calls -----------------------------------------------------------------------------------------------------

    def open(self, real: Callable[..., int], path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        name = self._inside(path)
        if name is None:
            return real(path, flags, mode, **more)
        new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        fds: list[int] = []

        def act() -> int:
            fds.append(real(path, flags, mode, **more))
            self._open[fds[0]] = self.node(name)
            return fds[0]

        if new:
            self._nodes.pop(name, None)
            try:
                self._do(Op("create", name, node=self.node(name)), act)
            except OSError:
                for fd in fds:  # made, and nobody has been told its number
                    os.close(fd)
                raise
        else:
            act()
            if flags & os.O_TRUNC:
                self.ops.append(Op("truncate", name, node=self.node(name)))
        return fds[0]

    def close(self, real: Callable[[int], None], fd: int) -> None:
        self._open.pop(fd, None)
        real(fd)

    def write(self, real: Callable[..., int], fd: int, data: Any) -> int:
        return self._write("write", lambda: real(fd, data), fd, data, None)

    def pwrite(self, real: Callable[..., int], fd: int, data: Any, at: int) -> int:
        return self._write("pwrite", lambda: real(fd, data, at), fd, data, at)

    def _write(self, name: str, real: Callable[[], int], fd: int, data: Any, at: int | None) -> int:
        path = self._inside(fd)
        if path is None:
            return real()
        if at is None:
            append = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
            at = os.fstat(fd).st_size if append else os.lseek(fd, 0, os.SEEK_CUR)
        result: int = self._do(Op(name, path, node=self._open[fd], at=at, data=bytes(data)), real)
        return result

    def ftruncate(self, real: Callable[..., None], fd: int, size: int) -> None:
        path = self._inside(fd)
        if path is None:
            real(fd, size)
        else:
            self._do(Op("truncate", path, node=self._open[fd], at=size), lambda: real(fd, size))

    def fsync(self, real: Callable[..., None], fd: int) -> None:
        path = self._inside(fd)
        if path is None:
            real(fd)
        else:
            kind = "fsync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync"
            self._do(Op(kind, path, node=self._open[fd]), lambda: real(fd))

    def flock(self, real: Callable[..., None], fd: int, operation: int) -> None:
        path = self._inside(fd)
        if path is None:
            real(fd, operation)
        else:
            self._do(Op("flock", path, node=self._open[fd]), lambda: real(fd, operation))

    def pread(self, real: Callable[..., bytes], fd: int, size: int, at: int) -> bytes:
        path = self._inside(fd)
        if path is None:
            return real(fd, size, at)
        result: bytes = self._do(Op("read", path, node=self._open[fd], at=at), lambda: real(fd, size, at))
        return result

    def rename(self, real: Callable[..., None], path: Any, to: Any, **more: Any) -> None:
        name, new = self._inside(path), self._inside(to)
        if name is None or new is None:
            real(path, to, **more)
            return

        def act() -> None:
            real(path, to, **more)
            self._nodes[new] = self._nodes.pop(name)
            self._named[self._nodes[new]] = new

        self._do(Op("rename", name, new, node=self.node(name)), act)

    def link(self, real: Callable[..., None], path: Any, to: Any, **more: Any) -> None:
        name, new = self._inside(path), self._inside(to)
        if name is None or new is None:
            real(path, to, **more)
            return

        def act() -> None:
            real(path, to, **more)
            self._nodes[new] = self.node(name)
            self._named[self._nodes[new]] = new

        self._do(Op("link", name, new, node=self.node(name)), act)

    def unlink(self, real: Callable[..., None], path: Any, **more: Any) -> None:
        self._remove("unlink", real, path, **more)

    def rmdir(self, real: Callable[..., None], path: Any, **more: Any) -> None:
        self._remove("rmdir", real, path, **more)

    def _remove(self, kind: str, real: Callable[..., None], path: Any, **more: Any) -> None:
        name = self._inside(path)
        if name is None:
            real(path, **more)
            return
        if kind == "unlink" and not os.path.lexists(path):
            real(path, **more)

        def act() -> None:
            real(path, **more)
            self._nodes.pop(name, None)

        self._do(Op(kind, name, node=self.node(name)), act)

    def mkdir(self, real: Callable[..., None], path: Any, mode: int = 0o777, **more: Any) -> None:
        name = self._inside(path)
        if name is None or os.path.lexists(path):
            real(path, mode, **more)
            return
        self._nodes.pop(name, None)
        self._do(Op("mkdir", name, node=self.node(name)), lambda: real(path, mode, **more))

    @contextmanager
    def watching(self) -> Iterator[Trace]:
        """Have every call of this process pass through here."""
        with pytest.MonkeyPatch.context() as patched:
            for module, names in (
                (os, ("open", "close", "write", "pwrite", "ftruncate", "fsync", "pread")),
                (os, ("rename", "link", "unlink", "rmdir", "mkdir")),
                (fcntl, ("flock",)),
            ):
                for name in names:
                    self._patch(patched, module, name)
            patched.setattr(os, "replace", os.rename)
            yield self

    def _patch(self, patched: pytest.MonkeyPatch, module: Any, name: str) -> None:
        ours, real = getattr(self, name), getattr(module, name)
        patched.setattr(module, name, lambda *args, **more: ours(real, *args, **more))
