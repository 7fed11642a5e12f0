"""The gateway's certificate authority: what it signs with, and what a sandbox has to trust."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from sandtrail.collector.gateway.fingerprint import locked
from sandtrail.store.layout import present

__all__ = ["ca_folder", "ensure_ca"]

_BASENAME = "mitmproxy"
_KEY_BITS = 2048


def ca_folder(home: Path) -> Path:
    """Where the authority is kept, in the form of mitmproxy's confdir."""
    return home / "gateway"


def ensure_ca(home: Path) -> Path:
    """The authority's certificate (PEM), made the first time; its key lies beside it and is readable by its owner only.

    Whole and durable enough to sign with when it returns, whoever else asks at the same time.
    """
    folder = ca_folder(home)
    certificate = folder / f"{_BASENAME}-ca-cert.pem"
    with locked(folder):
        if not present(certificate):
            _create(folder)
    return certificate


def _create(folder: Path) -> None:
    # An import of half a second, needed once in the life of a home.
    from mitmproxy.certs import CertStore

    work = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        name = f"Sandtrail egress gateway of {socket.gethostname()}"[:64]
        CertStore.create_store(work, _BASENAME, _KEY_BITS, organization="Sandtrail", cn=name)
        # The certificate comes last: where it is, the rest is too.
        for suffix in ("ca.pem", "dhparam.pem", "ca-cert.pem"):
            made = work / f"{_BASENAME}-{suffix}"
            made.chmod(0o644 if suffix == "ca-cert.pem" else 0o600)
            with made.open("rb") as file:
                os.fsync(file.fileno())
            made.rename(folder / made.name)
    finally:
        shutil.rmtree(work)
