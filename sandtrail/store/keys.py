"""The node's identity: the name of its log and the key that signs it."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from sandtrail.errors import DamagedError, NotFoundError, StoreError
from sandtrail.store.layout import Layout, publish
from sandtrail.store.note import Signer, Verifier

__all__ = ["load_signer", "load_verifier"]


def default_origin() -> str:
    """`sandtrail.local/default/<node>`; settings may name another domain, cluster or node."""
    node = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "node"
    return f"sandtrail.local/default/{node}"


def load_signer(home: Path, origin: str | None = None) -> Signer:
    """The node's signer; makes key and name the first time.

    Durable when it returns. Raises StoreError when the key file can be read by others than its owner, or is damaged: a
    log whose key has vanished is not silently given a new one.
    """
    layout = Layout(home).make()
    path = layout.keys / "log.key"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if layout.checkpoint.exists():
            raise StoreError(f"the log under {home} has no key at {path}; restore it, or start a new home") from None
        signer = Signer(origin or default_origin(), key := os.urandom(32))
        publish(path, key, mode=0o600)
        publish(layout.vkey, f"{signer.verifier.vkey}\n".encode(), mode=0o644)
        return signer
    with os.fdopen(fd, "rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise StoreError(f"{path} can be read by others; run: chmod 600 {path}")
        key = file.read(33)
    if len(key) != 32:
        raise DamagedError(f"{path} is not a 32-byte Ed25519 key; restore it from a copy")
    name = load_verifier(home).name if layout.vkey.exists() else origin or default_origin()
    signer = Signer(name, key)
    if not layout.vkey.exists():
        publish(layout.vkey, f"{signer.verifier.vkey}\n".encode(), mode=0o644)
    return signer


def load_verifier(home: Path) -> Verifier:
    """The public key that lies beside the log. Whoever can change the log can change it: pin a copy elsewhere."""
    path = Layout(home).vkey
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise NotFoundError(f"there is no log under {home}: {path} is missing") from None
    verifier = Verifier.parse(text)
    if text != f"{verifier.vkey}\n":
        raise DamagedError(f"{path} is not as it was written; restore it from a copy")
    return verifier
