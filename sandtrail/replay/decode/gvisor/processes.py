"""What a trace's messages have told of each process so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sandtrail.replay.decode.text import text

__all__ = ["Key", "Process", "Processes"]

_MAX: Final = 65_536
_MAX_OPENS: Final = 16
Key = tuple[str, int, int]
"""Container, thread group (or thread), when it started."""


@dataclass(slots=True)
class Process:
    """What earlier messages said of a process."""

    comm: str = ""
    exe: str = ""
    cwd: str = ""
    ppid: int = 0
    born: bool = False
    """Its clone was seen, or a message named its parent: it will notify that parent when it ends."""
    hidden: bool = False
    """Its folder has a name that silences messages."""
    opens: dict[int, str] = field(default_factory=dict)
    """What its program opened last under each descriptor; `_MAX_OPENS` of them, and none of its parent's."""

    def plain(self) -> list[Any]:
        """Its fields in their order."""
        return [self.comm, self.exe, self.cwd, self.ppid, self.born, self.hidden, self.opens]

    def began(self, exe: str) -> None:
        """It runs another program now. What the one before had open may be closed."""
        self.exe, self.comm = exe, exe.rpartition("/")[2][:15]
        self.opens.clear()

    def opened(self, fd: int, path: str) -> None:
        """It opened a file or a folder."""
        opens = self.opens
        opens[fd] = path
        if len(opens) > _MAX_OPENS:
            del opens[next(iter(opens))]


class Processes:
    """The processes that live, by key. A process that was never seen to end is forgotten once there are too many."""

    def __init__(self) -> None:
        self.known: dict[Key, Process] = {}
        self.containers: dict[bytes, str] = {}

    def container(self, name: bytes) -> str:
        """A container's id as text; there are few of them and every message has one."""
        found = self.containers.get(name)
        if found is None:
            if len(self.containers) > 1000:
                self.containers.clear()
            found = self.containers[name] = text(name, 256)
        return found

    def get(self, key: Key) -> Process:
        """The process; met now if it was not before. A message without a context is nobody's."""
        found = self.known.get(key)
        if found is None:
            if not key[1]:
                return Process()
            if len(self.known) >= _MAX:
                for old in list(self.known)[: _MAX // 8]:
                    del self.known[old]
            found = self.known[key] = Process()
        return found

    def clone(self, key: Key, parent: Process, child: Key) -> None:
        """A process was made. One that was met before (the child ran first) keeps what it said itself."""
        if child[1] == key[1] or not child[1]:
            return  # a thread
        made = self.get(child)
        made.comm = made.comm or parent.comm
        made.exe = made.exe or parent.exe
        made.cwd = made.cwd or parent.cwd
        made.ppid, made.born, made.hidden = key[1], True, parent.hidden

    def end(self, key: Key) -> None:
        """A process has ended and been reaped."""
        self.known.pop(key, None)
