"""The node's identity: the name of its log, the key that signs it, and the public keys that a reader pins."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from sandtrail.errors import DamagedError, NotFoundError, StoreError
from sandtrail.store.epochs import NodeSigner, epoch_name
from sandtrail.store.keyfile import ensure_private
from sandtrail.store.layout import Layout, present, publish
from sandtrail.store.note import PrivateKey, Signer, Verifier
from sandtrail.store.pkcs11 import open_private_key

__all__ = ["load_pins", "load_signer", "load_verifier", "node_signer"]


def default_origin() -> str:
    """`sandtrail.local/default/<node>`; settings may name another domain, cluster or node."""
    node = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "node"
    return f"sandtrail.local/default/{node}"


def load_signer(home: Path, origin: str | None = None, key: PrivateKey | None = None) -> NodeSigner:
    """The node's signer, before its epoch is known; makes key and name the first time.

    `key`: the identity's private key, where it is not a file of this home. Durable when it returns. Raises StoreError
    when the key file can be read by others than its owner, is damaged, or is not the key that the log was begun with: a
    log whose key has vanished is not silently given a new one.
    """
    layout = Layout(home).make()
    name = load_verifier(home).name if present(layout.vkey) else origin or default_origin()
    identity = Signer(name, _file_key(layout) if key is None else key)
    if not present(layout.vkey):
        publish(layout.vkey, f"{identity.verifier.vkey}\n".encode(), mode=0o644)
    elif load_verifier(home) != identity.verifier:
        raise StoreError(f"the log under {home} was begun with another key: {load_verifier(home).vkey}")
    return NodeSigner(home, identity)


def node_signer(home: Path) -> NodeSigner:
    """The node's signer as its settings say: where the identity's key is, and what a new log is called.

    Raises as `load_signer` and `open_private_key`.
    """
    # Who only verifies is not to wait for what reads settings: it takes longer to import than all of the store.
    from sandtrail.settings import load_settings

    settings = load_settings()
    return load_signer(home, settings.origin or None, open_private_key(settings.key))


def _file_key(layout: Layout) -> bytes:
    path = layout.keys / "log.key"
    if not present(path) and present(layout.checkpoint):
        raise StoreError(f"the log under {layout.home} has no key at {path}; restore it, or start a new home")
    return ensure_private(path)


def load_pins(home: Path) -> tuple[Verifier, Verifier | None]:
    """The identity's public key and that of the first epoch, if one has begun, from beside the log.

    Whoever can change the log can change them: pin a copy elsewhere. Raises NotFoundError where there is no log,
    DamagedError or UsageError when the file is not as it was written.
    """
    path = Layout(home).vkey
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise NotFoundError(f"there is no log under {home}: {path} is missing") from None
    first, *others = [Verifier.parse(line) for line in text.splitlines()[:3] or [""]]
    written = "".join(f"{one.vkey}\n" for one in (first, *others))
    if text != written or len(others) > 1 or any(one.name != epoch_name(first.name) for one in others):
        raise DamagedError(f"{path} is not as it was written; restore it from a copy")
    return first, others[0] if others else None


def load_verifier(home: Path) -> Verifier:
    """The identity's public key. Raises as `load_pins`."""
    return load_pins(home)[0]
