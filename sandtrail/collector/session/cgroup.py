"""A sandbox's memory limit, and whether it was what ended it: cgroup v1 and v2 alike.

Specification: the kernel's admin-guide/cgroup-v1/memory and admin-guide/cgroup-v2, section memory.events.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

__all__ = ["memory_events", "path_of", "remove"]

_MOUNT: Final = Path("/sys/fs/cgroup")


def path_of(session: str) -> str:
    """The cgroup path of a session, as an OCI bundle names it."""
    return f"/sandtrail/{session}"


def _unified() -> bool:
    return (_MOUNT / "cgroup.controllers").exists()


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def memory_events(cgroup: str) -> dict[str, int]:
    """`oom_kill` (processes that were killed), `failures` (times the limit was hit) and `peak` in bytes, as far as the
    kernel says; empty when the group is gone. For the time before the runtime deletes it."""
    if _unified():
        folder, events, peak = _MOUNT / cgroup.lstrip("/"), "memory.events", "memory.peak"
    else:
        folder, events, peak = _MOUNT / "memory" / cgroup.lstrip("/"), "memory.oom_control", "memory.max_usage_in_bytes"
    try:
        lines = dict(line.split() for line in (folder / events).read_text().splitlines())
    except (OSError, ValueError):
        return {}
    failures = int(lines["max"]) if "max" in lines else _number(folder / "memory.failcnt")
    found = {"oom_kill": int(lines.get("oom_kill", 0)), "failures": failures, "peak": _number(folder / peak)}
    return {name: value for name, value in found.items() if value is not None}


def remove(cgroup: str) -> None:
    """Remove the group where the runtime left it; one that still has processes stays."""
    roots = [_MOUNT] if _unified() else [path for path in _MOUNT.iterdir() if path.is_dir()]
    for root in roots:
        with contextlib.suppress(OSError):
            (root / cgroup.lstrip("/")).rmdir()
        with contextlib.suppress(OSError):
            (root / cgroup.lstrip("/")).parent.rmdir()  # ours too, once the last session has left it
