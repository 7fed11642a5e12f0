"""Bytes of a spool that were no record: kept as they were, each run under a data key of its own."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from sandtrail.errors import DamagedError, NotFoundError
from sandtrail.store.cipher import DAMAGED, new_nonce, seal, unseal
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.layout import Layout, publish

__all__ = ["keep", "kept_file", "read_kept"]


def kept_file(home: Path, gap: dict[str, Any]) -> Path:
    """Where the bytes are that a signed gap speaks of. Raises DamagedError when it names no such file."""
    name = f"{gap.get('file')}.{gap.get('offset')}"
    if "/" in name or "\0" in name:
        raise DamagedError("the entry names no file of kept bytes")
    return Layout(home).damaged / name


def keep(home: Path, keys: DataKeys, spool: str, offset: int, data: bytes) -> dict[str, Any]:
    """Keep bytes; returns what the gap must say about them. Durable when it returns."""
    key = keys.make(f"kept {spool}.{offset}", "")
    blob = seal(key, DAMAGED, new_nonce(), offset, data)
    gap = {"file": spool, "offset": offset, "bytes": len(data), "sha256": sha256(blob).digest(), "key": key.id}
    publish(kept_file(home, gap), blob)
    return gap


def read_kept(home: Path, gap: dict[str, Any]) -> bytes:
    """The bytes that a signed gap speaks of.

    Raises NotFoundError when they are missing, ErasedError when their data key is, DamagedError when they are not what
    was signed.
    """
    path = kept_file(home, gap)
    try:
        blob = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"the kept bytes {path} are missing") from None
    if sha256(blob).digest() != gap["sha256"]:
        raise DamagedError(f"the kept bytes {path} are not the ones that were signed")
    if "key" not in gap:
        return blob
    return unseal(DataKeys(home).get(gap["key"]), DAMAGED, gap["offset"], blob)[1]
