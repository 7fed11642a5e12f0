"""Execs and changes of directory told by up to three messages, any of which may be missing.

The sentry sends nothing, and counts nothing, when a string of a message is not valid UTF-8; a sandbox can bring that
about. Raw messages (registers only) always come. So for each thread:

* an exec is the raw call, the typed call (path and argv as given), and the sentry's own report (image, hash, files).
  runsc of 2026 sends them in this order, and says 0 for a call whose image then cannot be loaded; older ones send the
  sentry's report first, and say truly how the call ended. One `process.exec` comes of it. Where the typed call or the
  report is missing, what follows in the thread tells whether the image was loaded, if anything does.
* a change of directory is the raw call, then the typed one. Where the typed one is missing, the new folder's name is
  not UTF-8, and whatever carries the folder is silent until the process goes elsewhere. fchdir proves nothing that way:
  the sentry reports a stray register as its path, and that often enough is not UTF-8.

* any other call may be asked for both ways, or its beginning beside its end. What came first waits for what should be
  the thread's next message; it is told only where that does not come.

Older runsc also leave the context out of raw messages: those are paired with the next typed call of the same number,
whoever made it, and belong to nobody where none comes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from sandtrail.replay.decode.gvisor.raw import Raw
from sandtrail.replay.decode.gvisor.syscalls import EXEC

__all__ = ["FAILED", "LOADED", "PATIENCE_NS", "UNKNOWN", "Loose", "Pending", "outcome"]

LOADED: Final = "loaded"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"
PATIENCE_NS: Final = 1_000_000_000
"""How long a call waits for its other messages, by the log's own clock."""
_PATIENCE: Final = 12
_MAX_LOOSE: Final = 4096
_NOT_FOUND, _NOT_EXECUTABLE = 127 << 8, 126 << 8
_RLIMIT_STACK: Final = 3


@dataclass(slots=True)
class Pending:
    """A call of one thread whose further messages may come."""

    head: list[Any]
    """The columns of the event that it becomes, up to `object`; from the typed message where there is one."""
    call: str
    path: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    typed: bool = False
    errno: int = 0
    comm: str = ""
    """The process's name before."""
    age: int = 0

    @property
    def received_ns(self) -> int:
        """When its message was received."""
        return int(self.head[6])


def outcome(pending: Pending, kind: int, message: Any, name: str, call: str) -> str | None:
    """Whether the image was loaded, from a later message of the thread; None where it does not tell.

    `kind` is the message's type, `name` the process's name where it carries one, `call` the raw call's name.
    """
    if pending.errno or call in EXEC or kind == _EXECVE:
        # A program that was just loaded does other things first than to load another.
        return FAILED
    if kind in (_NOTIFY, _TASK_EXIT):
        # What a shell says of its child when the exec failed.
        return FAILED if message.exit_status in (_NOT_FOUND, _NOT_EXECUTABLE) else UNKNOWN
    if kind == _OPEN and (message.pathname.startswith(_LOADER_READS) or b"/glibc-hwcaps/" in message.pathname):
        return LOADED
    if kind == _PRLIMIT and message.resource == _RLIMIT_STACK and not message.HasField("new_limit"):
        return LOADED  # what the C library asks first
    if name:
        new = pending.path.rpartition("/")[2][:15]
        if name != pending.comm:
            return LOADED
        return FAILED if pending.typed and name != new else UNKNOWN
    pending.age += 1
    return UNKNOWN if pending.age >= _PATIENCE else None


_NOTIFY, _TASK_EXIT, _OPEN, _EXECVE, _PRLIMIT = 4, 5, 7, 11, 16
_LOADER_READS: Final = (b"/etc/ld.so.", b"/etc/ld-musl-")


@dataclass(slots=True)
class Loose:
    """Raw calls without a context, in the order in which they came, waiting for a typed call of the same number."""

    waiting: deque[tuple[Raw, list[Any]]] = field(default_factory=deque)

    def add(self, raw: Raw, head: list[Any]) -> None:
        """Keep a raw call."""
        self.waiting.append((raw, head))

    def pair(self, sysno: int, errno: int | None) -> None:
        """A typed call came. A thread sends it right after the raw one, so it accounts for the latest one like it."""
        for entry in reversed(self.waiting):
            if entry[0].sysno == sysno and entry[0].errno == errno:
                self.waiting.remove(entry)
                return

    def overdue(self, received_before_ns: int) -> list[tuple[Raw, list[Any]]]:
        """Take out those whose typed call should have come by now."""
        found = []
        while self.waiting and (self.waiting[0][1][6] < received_before_ns or len(self.waiting) > _MAX_LOOSE):
            found.append(self.waiting.popleft())
        return found
