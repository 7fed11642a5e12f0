"""Raises the machine's default socket send buffer for the moment in which a sandbox connects to the recorder.

A sandbox's trace socket takes its send buffer from net.core.wmem_default when it is made, and a message that does not
fit is lost: with the kernel's 212,992 bytes a long argument list erases the exec that it belongs to. The setting is the
whole machine's, so it is raised under a lock, for one command, and put back; a note on disk lets the next run put back
what a killed one left. Specification: socket(7), SO_SNDBUF; gVisor pkg/sentry/seccheck/sinks/remote.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["SETTING", "WANTED", "raised", "restore"]

WANTED: Final = 1 << 20
SETTING: Final = Path("/proc/sys/net/core/wmem_default")
_LOCK: Final = Path("/run/sandtrail-wmem.lock")
_NOTE: Final = Path("/run/sandtrail-wmem.before")


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _put_back() -> None:
    if _NOTE.exists():
        with contextlib.suppress(ValueError):
            SETTING.write_text(str(int(_NOTE.read_text())))
        _NOTE.unlink()


@contextlib.contextmanager
def raised() -> Iterator[int]:
    """Within it, new sockets of this machine get a send buffer of at least WANTED bytes; yields what they get, which is
    less on a machine that refuses, and 0 where nobody can tell (in a container that hides the setting)."""
    if not SETTING.exists():
        yield 0
        return
    with _locked():
        _put_back()
        before = int(SETTING.read_text())
        if before >= WANTED:
            yield before
            return
        _NOTE.write_text(str(before))
        try:
            SETTING.write_text(str(WANTED))
        except OSError:
            _NOTE.unlink()  # in a network namespace of one's own it can be read and not written
            yield before
            return
        try:
            yield int(SETTING.read_text())
        finally:
            _put_back()


def restore() -> None:
    """Put back what a killed run left raised."""
    if _NOTE.exists():
        with _locked():
            _put_back()
