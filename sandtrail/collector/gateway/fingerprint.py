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

from sandtrail.errors import StoreError
from sandtrail.store.keyfile import ensure_private
from sandtrail.store.layout import Layout

__all__ = ["Fingerprinter", "locked"]


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
        path = Layout(home).keys / "fingerprint.key"
        try:
            Layout(home).make()
            return cls(ensure_private(path))
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error

    def fingerprint(self, secret: bytes) -> str:
        """16 hex digits."""
        return hmac.new(self._key, secret, hashlib.sha256).hexdigest()[:16]

    def mark(self, name: str, secret: bytes) -> str:
        """`{{credential:<name>:<16 hex>}}`."""
        return f"{{{{credential:{name}:{self.fingerprint(secret)}}}}}"
