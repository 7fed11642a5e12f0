"""Cosignatures of checkpoints (C2SP tlog-cosignature v1.0.1): a witness states when it saw which head of a log.

A signature line holds a timestamp (u64, big-endian, POSIX seconds) and a signature over a message that repeats it.
There are two types: 04 is Ed25519 over the checkpoint's text, 06 is ML-DSA-44 over a `subtree/v1` structure that names
the cosigner and leaves out extension lines. A log may sign its own checkpoints with either.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from struct import pack, unpack_from

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from sandtrail.errors import DamagedError, UsageError
from sandtrail.store.note import (
    Checkpoint,
    Note,
    Verifier,
    VerifierKey,
    parse_checkpoint,
    signature_line,
    split_vkey,
    valid_name,
)

__all__ = [
    "CosignatureKey",
    "Cosigner",
    "Ed25519Cosigner",
    "Ed25519Key",
    "MLDSACosigner",
    "MLDSAKey",
    "cosigned_at",
    "parse_key",
]

_LATEST = (1 << 63) - 1
_LABEL = b"subtree/v1\n\0"


class CosignatureKey(VerifierKey):
    """A cosigner's public key under its name."""

    __slots__ = ()

    def timestamp(self, text: bytes, signature: bytes) -> int | None:
        """When `text` was cosigned, in POSIX seconds, or None when `signature` is not this key's over it.

        0 is what a cosigner writes who makes no statement about the time.
        """
        if len(signature) < 8:
            return None
        (at,) = unpack_from(">Q", signature)
        return at if at <= _LATEST and self._verify(text, at, signature[8:]) else None

    def check_signature(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over the note text `text`, at any time."""
        return self.timestamp(text, signature) is not None

    @abstractmethod
    def _verify(self, text: bytes, at: int, signature: bytes) -> bool: ...


class Ed25519Key(CosignatureKey):
    """The public key of a cosigner of type 04."""

    __slots__ = ()
    kind = 4
    length = 32
    what = "an Ed25519 key of a cosigner; it looks like NAME+1a2b3c4d+BA…"

    def _verify(self, text: bytes, at: int, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, _ed25519_message(text, at))
        except InvalidSignature:
            return False
        return True


class MLDSAKey(CosignatureKey):
    """The public key of a cosigner of type 06."""

    __slots__ = ()
    kind = 6
    length = 1312
    what = "an ML-DSA-44 key of a cosigner; it looks like NAME+1a2b3c4d+Bg…"

    def _verify(self, text: bytes, at: int, signature: bytes) -> bool:
        try:
            message = _mldsa_message(self.name, parse_checkpoint(text), at)
            MLDSA44PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, DamagedError, UsageError):
            return False
        return True


def _ed25519_message(text: bytes, at: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % at + text


def _mldsa_message(name: str, checkpoint: Checkpoint, at: int) -> bytes:
    tail = pack(">QQ", 0, checkpoint.size) + checkpoint.root
    return _LABEL + _opaque(name) + pack(">Q", at) + _opaque(checkpoint.origin) + tail


def _opaque(text: str) -> bytes:
    raw = text.encode()
    if not 0 < len(raw) < 256:
        raise UsageError(f"{text[:40]!r}… is too long a name for an ML-DSA-44 cosignature: at most 255 bytes")
    return bytes([len(raw)]) + raw


class Cosigner:
    """A witness's private key under its name. The subclass is the signature type."""

    verifier: CosignatureKey

    def line(self, text: bytes, at: int | None = None) -> bytes:
        """The cosignature line over a checkpoint's text, now or at `at` (POSIX seconds).

        The caller vouches for what the line says: that the log has grown to this head and that no larger one was seen.
        Raises DamagedError when the text is no checkpoint.
        """
        checkpoint = parse_checkpoint(text)
        at = int(time.time()) if at is None else at
        if not 0 <= at <= _LATEST:
            raise UsageError(f"{at} is no time that a cosignature can hold")
        signature = pack(">Q", at) + self._sign(text, checkpoint, at)
        return signature_line(self.verifier.name, self.verifier.key_id, signature)

    def _sign(self, text: bytes, checkpoint: Checkpoint, at: int) -> bytes:
        raise NotImplementedError


class Ed25519Cosigner(Cosigner):
    """Cosigns with type 04; `private` is 32 bytes, for this name alone: the message does not say who signs."""

    def __init__(self, name: str, private: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)
        self.verifier = Ed25519Key(_checked(name), self._key.public_key().public_bytes_raw())

    def _sign(self, text: bytes, checkpoint: Checkpoint, at: int) -> bytes:
        return self._key.sign(_ed25519_message(text, at))


class MLDSACosigner(Cosigner):
    """Cosigns with type 06; `seed` is the 32 bytes from which FIPS 204 derives the key."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = MLDSA44PrivateKey.from_seed_bytes(seed)
        self.verifier = MLDSAKey(_checked(name), self._key.public_key().public_bytes_raw())
        _opaque(name)

    def _sign(self, text: bytes, checkpoint: Checkpoint, at: int) -> bytes:
        return self._key.sign(_mldsa_message(self.verifier.name, checkpoint, at))


def _checked(name: str) -> str:
    if not valid_name(name):
        raise UsageError(f"{name!r} cannot name a witness: no blanks and no '+'")
    return name


def parse_key(vkey: str) -> VerifierKey:
    """Read a verifier key of type 01, 04 or 06. Raises UsageError when it is none of them."""
    for kind in (Verifier, Ed25519Key, MLDSAKey):
        if split_vkey(vkey)[1] == kind.kind:
            return kind.parse(vkey)
    raise UsageError("the verifier key is of a type that is not supported; 01, 04 and 06 are")


def cosigned_at(note: Note, key: CosignatureKey) -> int | None:
    """The newest time at which `key` has cosigned a note; None where it has not, or where a line in its name is bad."""
    times = [key.timestamp(note.text, one.signature) for one in note.signatures if key.claims(one)]
    good = [at for at in times if at is not None]
    return max(good) if good and len(good) == len(times) else None
