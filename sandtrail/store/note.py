"""Signed notes and checkpoints (C2SP signed-note v1.0.0 and tlog-checkpoint v1.0.0), Ed25519.

A note is text, an empty line and signature lines `— <name> <base64(key id || signature)>`. A checkpoint is a note whose
text is `<origin>\\n<size>\\n<base64 root>\\n`.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sandtrail.errors import DamagedError, UsageError

__all__ = ["Checkpoint", "Signer", "Verifier", "open_checkpoint"]

_ED25519 = b"\x01"
_MAX_NOTE = 1 << 20
_MAX_SIGNATURES = 64


def _key_id(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def _valid_name(name: str) -> bool:
    return bool(name) and not any(c.isspace() or c == "+" for c in name)


@dataclass(frozen=True, slots=True)
class Verifier:
    """A log's public key under its name."""

    name: str
    public: bytes

    @property
    def vkey(self) -> str:
        """The signed-note form `<name>+<key id>+<base64(type || key)>`."""
        key = base64.b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{_key_id(self.name, self.public).hex()}+{key}"

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Read a vkey. Raises UsageError when it is not one, or its key id does not fit its key."""
        name, _, rest = vkey.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if not _valid_name(name) or raw[:1] != _ED25519 or len(raw) != 33:
            raise UsageError("the key is not an Ed25519 verifier key; it looks like NAME+1a2b3c4d+AQ…")
        if key_id != _key_id(name, raw[1:]).hex():
            raise UsageError(f"the verifier key of {name} is damaged: its key id does not fit its key")
        return cls(name, raw[1:])

    def check(self, text: bytes, blob: bytes) -> bool:
        """Whether `blob` (key id || signature) is this key's signature of `text`."""
        if blob[:4] != _key_id(self.name, self.public):
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(blob[4:], text)
        except InvalidSignature:
            return False
        return True


class Signer:
    """A log's private key under its name."""

    def __init__(self, name: str, private: bytes) -> None:
        if not _valid_name(name):
            raise UsageError(f"{name!r} cannot name a log: no blanks and no '+'")
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.verifier = Verifier(name, self._key.public_key().public_bytes_raw())

    def sign(self, text: str) -> bytes:
        """The signed note over `text`, which must end in a newline."""
        raw = text.encode()
        name = self.verifier.name
        blob = _key_id(name, self.verifier.public) + self._key.sign(raw)
        return raw + f"\n— {name} {base64.b64encode(blob).decode()}\n".encode()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: how many entries, and the root over them."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def open_checkpoint(note: bytes, verifier: Verifier) -> Checkpoint:
    """Check the signature on a checkpoint and read it.

    Raises DamagedError when the note is malformed, is of another log, or has no good signature by `verifier`. Unknown
    signature lines are ignored, as the specification asks; a missing one of ours is never taken for a good one.
    """
    if len(note) > _MAX_NOTE:
        raise DamagedError(f"the checkpoint is {len(note)} bytes long; no real one is")
    text, separator, signatures = note.rpartition(b"\n\n")
    if not separator:
        raise DamagedError("the checkpoint carries no signature")
    text += b"\n"
    if not _signed(text, signatures, verifier):
        raise DamagedError(f"the checkpoint carries no good signature by {verifier.name}")
    return _parse(text, verifier.name)


def _signed(text: bytes, signatures: bytes, verifier: Verifier) -> bool:
    lines = signatures.split(b"\n")
    if lines.pop() != b"" or len(lines) > _MAX_SIGNATURES:
        return False
    good = False
    for line in lines:
        dash, name, encoded = (line.split(b" ") + [b"", b""])[:3]
        if dash != "—".encode() or line.count(b" ") != 2:
            return False
        try:
            blob = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return False
        if base64.b64encode(blob) != encoded or len(blob) < 5:
            return False
        good = good or (name == verifier.name.encode() and verifier.check(text, blob))
    return good


def _parse(text: bytes, name: str) -> Checkpoint:
    try:
        origin, size, root, *_ = text.decode().split("\n")
        raw = base64.b64decode(root, validate=True)
    except (ValueError, binascii.Error) as error:
        raise DamagedError(f"the checkpoint is signed but malformed: {error}") from None
    if origin != name:
        raise DamagedError(f"the checkpoint is of the log {origin!r}, not of {name!r}")
    digits = size.isascii() and size.isdigit() and len(size) <= 20 and (size == "0" or size[0] != "0")
    if not digits or len(raw) != 32:
        raise DamagedError("the checkpoint is signed but its size or root is malformed")
    return Checkpoint(origin, int(size), raw)
