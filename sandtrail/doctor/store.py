"""Where the evidence is kept: whose it is, whether there is room, and whether its head is signed."""

from __future__ import annotations

import os
from pathlib import Path

from sandtrail.doctor import Result, State
from sandtrail.errors import NotFoundError
from sandtrail.settings import load_settings
from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import present
from sandtrail.store.reader import open_log

__all__ = ["home", "log", "space"]

_MIB = 1 << 20
_LEAST, _LITTLE = 256 * _MIB, 2048 * _MIB
_LEAST_FILES = 1000
_IN_MEMORY = {"tmpfs", "ramfs"}


def _folder(given: Path | None) -> Path:
    return given or load_settings().home


def _nearest(folder: Path) -> Path:
    """The folder, or the first one above it that is there."""
    return next(path for path in (folder, *folder.parents) if present(path))


def home(given: Path | None, *, reading: bool) -> Result:
    """Whether the store can be written, and by nobody else."""
    folder = _folder(given)
    if not present(folder):
        if reading:
            return Result(State.BAD, f"{folder} is not there", "name the store: --home, or SANDTRAIL_HOME")
        above = _nearest(folder)
        if not os.access(above, os.W_OK | os.X_OK):
            return Result(State.BAD, f"{folder} can't be made in {above}", "use sudo, or name another: SANDTRAIL_HOME")
        return Result(State.GOOD, f"{folder}: the first recording makes it")
    facts = folder.stat()
    mode = f"{facts.st_mode & 0o777:04o}"
    if not folder.is_dir():
        return Result(State.BAD, f"{folder} is no folder", "name another: SANDTRAIL_HOME")
    if facts.st_mode & 0o022:
        return Result(State.BAD, f"others can write to {folder} (mode {mode})", f"chmod 700 {folder}")
    if not os.access(folder, os.R_OK | os.X_OK | (0 if reading else os.W_OK)):
        found = f"{folder} can't be {'read' if reading else 'written'} by this user"
        return Result(State.BAD, found, "use sudo, or name another: SANDTRAIL_HOME")
    if facts.st_uid != os.geteuid():
        found = f"{folder} belongs to user {facts.st_uid}, and this is {os.geteuid()}"
        return Result(State.WARNING, found, "one user should own all of it")
    if facts.st_mode & 0o055:
        return Result(State.WARNING, f"others can look into {folder} (mode {mode})", f"chmod 700 {folder}")
    return Result(State.GOOD, str(folder))


def space(given: Path | None) -> Result:
    """Whether there is room, on a disk that keeps it."""
    folder = _nearest(_folder(given))
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    kind = _file_system(folder)
    found = f"{free / _MIB:,.0f} MiB free under {folder} ({kind})"
    full = "free some, or: sandtrail retain --older-than 90d"
    if facts.f_flag & os.ST_RDONLY:
        return Result(State.BAD, f"{folder} is mounted read-only", "mount it to be written, or name another home")
    if free < _LEAST or (facts.f_files and facts.f_favail < _LEAST_FILES):
        return Result(State.BAD, found, full)
    if kind in _IN_MEMORY:
        return Result(State.WARNING, found, "what is kept in memory is gone after a restart: name a home on a disk")
    return Result(State.WARNING, found, full) if free < _LITTLE else Result(State.GOOD, found)


def _file_system(folder: Path) -> str:
    """Its type; the last mount of the longest path that leads there (proc(5), mountinfo)."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == wanted:
            return kind.split()[0]
    return "of an unknown type"


def log(given: Path | None) -> Result:
    """Whether the log's head is signed by its key; what lies under it is `sandtrail verify`'s to say."""
    folder = _folder(given)
    try:
        head = open_log(folder).checkpoint()
    except NotFoundError:
        return Result(State.GOOD, "none yet: the first recording begins it")
    return Result(State.GOOD, f"{head.size} entries, signed by {load_verifier(folder).vkey}")
