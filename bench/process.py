"""CPU time and memory of our own processes, from /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Meter", "cpu_seconds", "descendants", "peak_rss", "running"]

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _stat(pid: int) -> list[str]:
    # The name, in parentheses, may itself hold spaces and parentheses.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    try:
        return _stat(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of those children of it that have ended; 0 when it is gone itself."""
    try:
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(n) for n in fields[11:15]) / _TICK


def descendants(pid: int) -> list[int]:
    """The processes that `pid` started and those that they started, at this moment."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
            except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
                continue
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def peak_rss(pid: int, every_s: float = 0.1) -> int:
    """Watch a process until it ends: the most bytes that it and its descendants had resident at one moment, pages that
    they share counted in each."""
    peak = 0
    while running(pid):
        peak = max(peak, sum(map(_rss, [pid, *descendants(pid)])))
        time.sleep(every_s)
    return peak


class Meter:
    """What named groups of processes spend from `settle` on."""

    def __init__(self, groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = groups
        self._before = self._now()

    def _now(self) -> dict[str, float]:
        return {name: sum(cpu_seconds(pid) for pid in pids) for name, pids in self._groups.items()}

    def settle(self, quiet_s: float = 0.5, timeout_s: float = 20.0) -> None:
        """Wait until the processes have nothing to do: loading their modules is not part of any measurement."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            before = self._now()
            time.sleep(quiet_s)
            self._before = self._now()
            if all(self._before[name] - spent <= 2 / _TICK for name, spent in before.items()):
                return

    def read(self) -> dict[str, float]:
        """Seconds of CPU by group since `settle`."""
        return {name: round(spent - self._before[name], 3) for name, spent in self._now().items()}
