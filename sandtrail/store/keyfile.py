"""Private keys in files: 32 bytes that only their owner can read, made once and never written over."""

from __future__ import annotations

import os
from pathlib import Path

from sandtrail.errors import DamagedError, StoreError
from sandtrail.store.layout import publish

__all__ = ["ensure_private", "read_private"]

_SIZE = 32


def read_private(path: Path) -> bytes:
    """A private key's 32 bytes. Raises StoreError when others than its owner can read the file, DamagedError when it
    holds something else, FileNotFoundError when there is none."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise StoreError(f"{path} can be read by others; run: chmod 600 {path}")
        key = file.read(_SIZE + 1)
    if len(key) != _SIZE:
        raise DamagedError(f"{path} is not a {_SIZE}-byte private key; restore it from a copy")
    return key


def ensure_private(path: Path) -> bytes:
    """The private key in this file, made of random bytes if there is none.

    Durable when it returns. Of several that ask at once, all get the same. Raises as `read_private`, but for what is
    not there, and OSError as the disk does.
    """
    try:
        return read_private(path)
    except FileNotFoundError:
        try:
            publish(path, key := os.urandom(_SIZE), new=True)
        except FileExistsError:  # somebody else has been quicker
            return read_private(path)
        return key
