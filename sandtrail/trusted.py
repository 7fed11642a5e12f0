"""Whether a file can be believed: only if nobody but root and the user who runs us could have written or swapped it.

The rule is that of OpenSSH for its keys and of sudo for its policy. Everything that the kernel passes on the way to the
file counts, symbolic links and the folders that they lead through included: who may write to a folder on the way can
put another file in this one's place. In a folder with the sticky bit (/tmp) nobody can do that to what is another's, so
there the owner of what lies in it decides.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sandtrail.errors import UsageError

__all__ = ["require_trusted"]

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_MAX_LINKS = 40  # as many as the kernel follows, path_resolution(7)


def require_trusted(path: Path, what: str) -> None:
    """Return if `path`, called `what` in messages, is a file that only root and this user could have written.

    Raises UsageError where others could have, and where it is no regular file; OSError where that cannot be found out.
    """
    for place, facts in _passed(path):
        if facts.st_uid not in (0, os.geteuid()):
            _refuse(path, what, f"{place} belongs to user {facts.st_uid}", f"chown {_me()} {place}")
        shared = facts.st_mode & _OTHERS and not stat.S_ISLNK(facts.st_mode)
        if shared and not (stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX):
            mode = f"mode {stat.S_IMODE(facts.st_mode):04o}"
            _refuse(path, what, f"others can write to {place} ({mode})", f"chmod go-w {place}")
    if not stat.S_ISREG(facts.st_mode):
        raise UsageError(f"{what} {path} is no file; remove it, or write one")


def _passed(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every folder and link on the way to `path`, from / on, and at last what it names."""
    todo, here, links = [*reversed(path.absolute().parts)], Path("/"), 0
    while todo:
        part = todo.pop()
        here = here.parent if part == ".." else here / part
        facts = here.lstat()
        yield here, facts
        if stat.S_ISLNK(facts.st_mode):
            links += 1
            if links > _MAX_LINKS:
                raise UsageError(f"{path} leads through more than {_MAX_LINKS} symbolic links")
            todo += reversed(here.readlink().parts)
            here = here.parent


def _refuse(path: Path, what: str, why: str, remedy: str) -> None:
    raise UsageError(
        f"{what} {path} is not used, since {why}: somebody else could have written it. If you know that it is right, "
        f"run: {remedy}; if not, remove it, or work in another folder. /etc/sandtrail is always a good place for it"
    )


def _me() -> str:
    return "root" if os.geteuid() == 0 else str(os.geteuid())
