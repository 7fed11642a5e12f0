"""One keeper a home: a lock says which, and a successor waits for one that is ending."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

__all__ = ["become_the_keeper", "wait_for_the_last"]

# How long to wait for a keeper that is just ending.
_SUCCESSION = 10.0


def become_the_keeper(folder: Path) -> int:
    """The lock of a run folder, held until this process ends. Raises BlockingIOError when another one serves there."""
    lock = os.open(folder / "keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _SUCCESSION
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # One that still answers stays; one that no longer does is ending, and we are its successor.
            if (folder / "keeper.sock").exists() or time.monotonic() > deadline:
                os.close(lock)
                raise
            time.sleep(0.05)
        else:
            return lock


def wait_for_the_last(folder: Path, seconds: float) -> None:
    """Return once no keeper holds the lock: one that a recording started stays for a while after its last session."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    with (folder / "keeper.lock").open("a") as lock:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
            else:
                return
