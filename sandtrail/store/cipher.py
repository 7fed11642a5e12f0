"""Stored bytes under a data key: AES-256-GCM, and the salts of their leaves (docs/log-format.md, "A segment's blob").

Every blob has a random nonce, from which and the data key its own two keys are derived (HKDF-SHA256, RFC 5869). A key
that is used once needs no nonce of its own.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sandtrail.errors import DamagedError
from sandtrail.store.datakeys import DataKey
from sandtrail.store.leaves import SALT_SIZE

__all__ = ["DAMAGED", "NONCE_SIZE", "SEGMENT", "new_nonce", "salts", "seal", "unseal"]

SEGMENT = b"STseg2\n\0"
DAMAGED = b"STdam2\n\0"
NONCE_SIZE = 32
_ONCE = bytes(12)


def new_nonce() -> bytes:
    """A blob's nonce."""
    return os.urandom(NONCE_SIZE)


def _derive(key: DataKey, nonce: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=nonce, info=f"sandtrail/v2/{purpose}".encode()).derive(key.key)


def salts(key: DataKey, nonce: bytes, frames: int) -> bytes:
    """The salts of a blob's leaves, SALT_SIZE bytes for each in their order: a key stream."""
    return Cipher(AES256(_derive(key, nonce, "salt")), CTR(bytes(16))).encryptor().update(bytes(SALT_SIZE * frames))


def _context(key: DataKey, magic: bytes, nonce: bytes, number: int) -> bytes:
    return magic + nonce + number.to_bytes(8, "little") + key.id


def seal(key: DataKey, magic: bytes, nonce: bytes, number: int, plain: bytes) -> bytes:
    """The blob that keeps `plain`. `number` ties it to its place: the segment's number, or the offset of kept bytes."""
    once = AESGCM(_derive(key, nonce, "blob"))
    return b"".join([magic, nonce, once.encrypt(_ONCE, plain, _context(key, magic, nonce, number))])


def unseal(key: DataKey, magic: bytes, number: int, blob: bytes) -> tuple[bytes, bytes]:
    """(nonce, what was sealed). Raises DamagedError when the blob is another's or was changed."""
    nonce = blob[len(magic) : len(magic) + NONCE_SIZE]
    if not blob.startswith(magic) or len(nonce) != NONCE_SIZE:
        raise DamagedError("the blob is of another format")
    try:
        plain = AESGCM(_derive(key, nonce, "blob")).decrypt(
            _ONCE, blob[len(magic) + NONCE_SIZE :], _context(key, magic, nonce, number)
        )
    except InvalidTag:
        raise DamagedError(f"the blob was not sealed under the data key {key.name}") from None
    return nonce, plain
