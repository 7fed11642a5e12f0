"""Keyed fingerprints: what stands in the record where a credential stood.

The same secret gives the same fingerprint throughout one home, so uses of it can be matched; without the key nobody can
tell which secret it was, nor try guesses. The key never leaves `keys/fingerprint.key`.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandtrail.errors import DamagedError, StoreError
from sandtrail.store.layout import Layout, publish

__all__ = ["Fingerprinter", "locked"]

_KEY_SIZE = 32


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: of several processes that want to make the same file, one does."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


class Fingerprinter:
    """Replaces secrets under one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def load(cls, home: Path) -> Fingerprinter:
        """With the home's key; makes it the first time. Raises StoreError when others can read it or it is damaged."""
        folder = Layout(home).make().keys
        path = folder / "fingerprint.key"
        with locked(folder):
            if not path.exists():
                publish(path, os.urandom(_KEY_SIZE), mode=0o600)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        with os.fdopen(fd, "rb") as file:
            if os.fstat(fd).st_mode & 0o077:
                raise StoreError(f"{path} can be read by others; run: chmod 600 {path}")
            key = file.read(_KEY_SIZE + 1)
        if len(key) != _KEY_SIZE:
            raise DamagedError(f"{path} is not a key of {_KEY_SIZE} bytes; restore it from a copy, or remove it")
        return cls(key)

    def fingerprint(self, secret: bytes) -> str:
        """16 hex digits."""
        return hmac.new(self._key, secret, hashlib.sha256).hexdigest()[:16]

    def mark(self, name: str, secret: bytes) -> str:
        """`{{credential:<name>:<16 hex>}}`."""
        return f"{{{{credential:{name}:{self.fingerprint(secret)}}}}}"
