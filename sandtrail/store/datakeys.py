"""The keys that payloads are stored under: one for each sandbox, so that destroying a key erases a sandbox.

Signed entries name nothing but a key's id, a digest over its random bytes: whom it was about goes with the key.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import cbor2

from sandtrail.errors import DamagedError, ErasedError
from sandtrail.store.layout import Layout, listed, present, publish, shred, sweep

__all__ = ["DataKey", "DataKeys"]

_VERSION = 2
_MAX_FILE = 64 * 1024


@dataclass(frozen=True)
class DataKey:
    """A key (32 bytes), and whose frames it keeps; no sandbox: the node's own."""

    key: bytes
    sandbox: str
    session: str
    created: int

    @cached_property
    def file(self) -> bytes:
        """What is stored of it."""
        fields = {"key": self.key, "sandbox": self.sandbox, "session": self.session, "created": self.created}
        return cbor2.dumps({"v": _VERSION, **fields}, canonical=True)

    @cached_property
    def id(self) -> bytes:
        """Its name in signed entries: 16 bytes of a digest over all of it, so no label can be changed unnoticed."""
        return sha256(self.file).digest()[:16]

    @property
    def name(self) -> str:
        """The id as people and file names write it."""
        return self.id.hex()


class DataKeys:
    """The data keys of one home. Only the sealer makes and destroys them; others read them as long as they exist."""

    def __init__(self, home: Path) -> None:
        self._folder = Layout(home).data_keys
        self._known: dict[bytes, DataKey] = {}
        self._by_owner: dict[tuple[str, str], DataKey] | None = None

    def _path(self, ident: bytes) -> Path:
        return self._folder / f"{ident.hex()}.key"

    def get(self, ident: bytes) -> DataKey:
        """The key with this id. Raises ErasedError when it is gone, DamagedError when its file is not one."""
        found = self._known.get(ident)
        if found is None:
            found = self._known[ident] = self._read(self._path(ident))
        elif not present(self._path(ident)):
            del self._known[ident]
            raise ErasedError(f"the data key {ident.hex()} is gone: what was stored under it can't be read any more")
        return found

    def _read(self, path: Path) -> DataKey:
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE)
        except FileNotFoundError:
            raise ErasedError(
                f"the data key {path.stem} is gone: what was stored under it can't be read any more"
            ) from None
        if not data.strip(b"\0"):
            raise ErasedError(f"the data key {path.stem} is destroyed: what was stored under it can't be read any more")
        try:
            value = cbor2.loads(data)
            key = DataKey(value["key"], value["sandbox"], value["session"], value["created"])
            good = data == key.file and key.name == path.stem and len(key.key) == 32
        except Exception as error:  # noqa: BLE001  # whatever the decoder stumbles over in changed bytes, they are damaged
            raise DamagedError(f"the data key {path} is damaged: {error}; restore it from a copy") from None
        if not good:
            raise DamagedError(f"the data key {path} is not one of ours; restore it from a copy")
        return key

    def all(self) -> list[DataKey]:
        """Every key that there is, oldest first. Raises DamagedError as `get` does."""
        return self._all()

    def _all(self, *spared: type[Exception]) -> list[DataKey]:
        keys = []
        for path in listed(self._folder, ".key"):
            # Erased while we looked, or half so when the power went.
            with contextlib.suppress(ErasedError, *spared):
                keys.append(self._read(path))
        return sorted(keys, key=lambda key: (key.created, key.id))

    def of_session(self, session: str) -> list[DataKey]:
        """The keys that keep frames of this session."""
        return [key for key in self.all() if key.session == session]

    def for_sandbox(self, sandbox: str, session: str) -> DataKey:
        """The sandbox's key, made if it has none; durable when it returns."""
        if self._by_owner is None:
            sweep(self._folder)
            # One that is damaged must not keep us from recording; who reads what it keeps is told.
            self._by_owner = {(key.sandbox, key.session): key for key in self._all(DamagedError)}
        found = self._by_owner.get((sandbox, session))
        if found is None:
            found = self._by_owner[sandbox, session] = self.make(sandbox, session)
        return found

    def make(self, sandbox: str, session: str) -> DataKey:
        """A new key; durable when it returns."""
        key = DataKey(os.urandom(32), sandbox, session, time.time_ns())
        publish(self._path(key.id), key.file)
        self._known[key.id] = key
        return key

    def destroy(self, ident: bytes) -> None:
        """Overwrite the key's file and remove it; nothing happens where it is gone already. Durable when it returns."""
        self._known.pop(ident, None)
        if self._by_owner is not None:
            self._by_owner = {owner: key for owner, key in self._by_owner.items() if key.id != ident}
        shred(self._path(ident))
