"""Takes in the processes that runsc leaves behind: the sentry and its helpers.

`runsc create` starts them and exits, so they would become children of whatever reaps orphans here, and how a sentry
died would never be known (nor, in a container whose init reaps slowly, when). While this is on, they become our
children: each is reaped at once and how it ended is kept. Specification: prctl(2), PR_SET_CHILD_SUBREAPER;
pidfd_open(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import threading
from pathlib import Path

__all__ = ["Orphans", "how_it_ended"]

_PR_SET_CHILD_SUBREAPER = 36


class Orphans:
    """A context manager for one runsc state folder; `look` takes in whatever has been left since."""

    def __init__(self, root: Path) -> None:
        self._mark = f"--root={root}".encode()
        self._poll = select.epoll()
        self._pids: dict[int, int] = {}
        self._ended: dict[int, os.waitid_result] = {}
        self._lock = threading.Lock()
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._reap, name="orphans", daemon=True)

    def __enter__(self) -> Orphans:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._poll.register(self._wake, select.EPOLLIN)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        os.close(self._stop)
        self._thread.join()
        for pidfd in self._pids:
            os.close(pidfd)
        self._poll.close()
        os.close(self._wake)

    def look(self) -> None:
        """Take in the children of this process that belong to the state folder and are not known yet."""
        with self._lock:
            for pid in _children() - set(self._pids.values()) - set(self._ended):
                if self._mark not in _arguments(pid) and not _died_unseen(pid):
                    continue
                with contextlib.suppress(OSError):
                    pidfd = os.pidfd_open(pid)
                    self._pids[pidfd] = pid
                    self._poll.register(pidfd, select.EPOLLIN)

    def ended(self, pid: int) -> os.waitid_result | None:
        """How process `pid` ended; None while it runs or when it was never ours."""
        with self._lock:
            return self._ended.get(pid)

    def _reap(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._wake:
                    return
                self._poll.unregister(fd)
                with self._lock:
                    pid = self._pids.pop(fd)
                    with contextlib.suppress(ChildProcessError):
                        result = os.waitid(os.P_PIDFD, fd, os.WEXITED)
                        if result is not None:
                            self._ended[pid] = result
                    os.close(fd)


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found.update(map(int, (task / "children").read_text().split()))
    return found


def _arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _died_unseen(pid: int) -> bool:
    """Whether it is a helper that has ended before anybody looked: of its arguments nothing is left then, but its name
    is, and runsc starts its helpers from /proc/self/exe. One that nobody reaps, `runsc delete` of old waits 5 s for."""
    try:
        return b" (exe) Z " in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


def how_it_ended(result: os.waitid_result | None) -> dict[str, int | str]:
    """A process's end in words: `{"exit_status"}` or `{"signal"}`; empty when nobody knows."""
    if result is None:
        return {}
    if result.si_code == os.CLD_EXITED:
        return {"exit_status": result.si_status}
    return {"signal": result.si_status}
