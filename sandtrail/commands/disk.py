"""What to say when the disk, or whoever rules over it, refuses: the one place where that becomes words for a reader."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sandtrail.errors import EnvironmentRefusedError

__all__ = ["told"]

_FULL = "make room there: `sandtrail doctor` says how much there is; to remove old evidence: sandtrail retain"
_DENIED = "run this as the user whose it is (root, for what was recorded), or name another place"
_KIND = "it is not what it should be: name another place, or move what is there away"
_FILES = "too many files are open: raise the limit (ulimit -n), or end what else runs"
# Whatever else an OSError may say is no matter of the disk, and most likely a mistake of ours.
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "it is mounted read-only: have it mounted to be written, or work on a copy: --home",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EIO: "the disk fails, the kernel's log (dmesg) says how: save what can still be read, and do not write there",
    errno.ENOENT: "it is not there, or not any more: name another place, or run this again",
    errno.ENOTDIR: _KIND,
    errno.EISDIR: _KIND,
    errno.EEXIST: _KIND,
    errno.ELOOP: _KIND,
    errno.ENAMETOOLONG: "choose a shorter path, or a shorter name",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}


@contextmanager
def told() -> Iterator[None]:
    """Within, what the disk refuses becomes EnvironmentRefusedError: which file, why, what to do. Other errors stay."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        # An open file has no name in its errors, only a number.
        named = isinstance(error.filename, str | bytes | os.PathLike)
        what = f"cannot use {os.fsdecode(error.filename)}" if named else "the disk refused to be read or written"
        raise EnvironmentRefusedError(f"{what}: {error.strerror}; {remedy}") from error
