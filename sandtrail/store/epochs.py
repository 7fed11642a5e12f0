"""Epochs: a node's signing keys follow one another, each certified by the one before it and then erased.

What an epoch has signed can't be changed with the keys of a later one: its certificate fixes size and root of the log
at that moment, and the key that signed it is gone (forward security; Bellare and Yee, "Forward integrity", 1997). The
log's identity signs every checkpoint too, so that witnesses and other people's verifiers know one key; alone it is
not enough for ours.
"""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from sandtrail.errors import DamagedError, StoreError, UsageError
from sandtrail.store.keyfile import ensure_private, read_private
from sandtrail.store.layout import Layout, listed, publish, shred, sweep
from sandtrail.store.note import Signer, Verifier, signed_by

__all__ = ["Certificate", "NodeSigner", "epoch_name", "parse_certificate"]

_HEADER = "sandtrail/epoch/v1"
_MAX_CERTIFICATE = 4096


def epoch_name(origin: str) -> str:
    """The name under which the keys of a log's epochs sign."""
    return f"{origin}/epoch"


class Certificate(NamedTuple):
    """From which size on, with which root there, another key signs."""

    origin: str
    epoch: int
    size: int
    root: bytes
    verifier: Verifier

    @property
    def text(self) -> str:
        """What is signed."""
        root = base64.b64encode(self.root).decode()
        return f"{_HEADER}\n{self.origin}\n{self.epoch}\n{self.size}\n{root}\n{self.verifier.vkey}\n"


def parse_certificate(note: str, predecessor: Verifier) -> Certificate:
    """Check the predecessor's signature on a certificate and read it. Raises DamagedError when it does not hold."""
    data = note.encode("utf-8", "surrogatepass")
    if len(data) > _MAX_CERTIFICATE or not signed_by(data, predecessor):
        raise DamagedError(f"the certificate carries no good signature by {predecessor.name}")
    try:
        text = note.partition("\n\n")[0] + "\n"
        header, origin, epoch, size, root, vkey, end = text.split("\n")
        found = Certificate(origin, int(epoch), int(size), base64.b64decode(root, validate=True), Verifier.parse(vkey))
    except (ValueError, binascii.Error, UsageError) as error:
        raise DamagedError(f"the certificate is signed but malformed: {error}") from None
    if found.text != text or header != _HEADER or end or found.verifier.name != epoch_name(origin):
        raise DamagedError("the certificate is signed but malformed")
    return found


@dataclass(slots=True)
class NodeSigner:
    """Signs for a node: every text with the identity and, once the first epoch has begun, with the epoch's key.

    `epoch` is -1 before that. Not for use from several threads at once.
    """

    home: Path
    identity: Signer
    epoch: int = -1
    _signer: Signer | None = None

    @property
    def verifier(self) -> Verifier:
        """The identity's public key."""
        return self.identity.verifier

    def sign(self, text: str) -> bytes:
        """The signed note over `text`, which must end in a newline."""
        note = self.identity.sign(text)
        if self._signer is None:
            return note
        return note + self._signer.sign(text)[len(text.encode()) + 1 :]

    def _path(self, epoch: int) -> Path:
        return Layout(self.home).epochs / f"{epoch}.key"

    def enter(self, epoch: int) -> None:
        """Sign as this epoch, which the log says is the current one; erases the keys of those before it.

        Raises StoreError when its key is missing.
        """
        for folder in (Layout(self.home).keys, Layout(self.home).epochs):
            sweep(folder)
        try:
            self._use(epoch)
        except FileNotFoundError:
            raise StoreError(
                f"the key of the current epoch is missing: {self._path(epoch)}; restore it, or start a new home"
            ) from None
        self.erase_old()

    def _use(self, epoch: int) -> None:
        self._signer = Signer(epoch_name(self.verifier.name), read_private(self._path(epoch)))
        self.epoch = epoch

    def age(self) -> float:
        """Seconds since the current epoch's key was made."""
        return time.time() - self._path(self.epoch).stat().st_mtime

    def next(self, size: int, root: bytes) -> tuple[int, str]:
        """Make the next epoch's key and certify it over the log's size and root; returns its number and certificate.

        The key is durable when this returns. Nothing is signed with it before `begin`; asked again, after a crash, it
        certifies the same key.
        """
        epoch = self.epoch + 1
        path = self._path(epoch)
        verifier = Signer(epoch_name(self.verifier.name), ensure_private(path)).verifier
        if not epoch:
            pins = f"{self.verifier.vkey}\n{verifier.vkey}\n"
            publish(Layout(self.home).vkey, pins.encode(), mode=0o644)
        certificate = Certificate(self.verifier.name, epoch, size, root, verifier)
        return epoch, (self._signer or self.identity).sign(certificate.text).decode()

    def begin(self) -> None:
        """Sign with the next epoch's key from now on. Its certificate must be in the log before anything is signed."""
        self._use(self.epoch + 1)

    def erase_old(self) -> None:
        """Erase the keys before the current one; for when a checkpoint by the current one covers its certificate."""
        for path in listed(Layout(self.home).epochs, ".key"):
            if path.stem.isdecimal() and int(path.stem) < self.epoch:
                shred(path)
