"""The Merkle leaf that commits to a frame: one at a time, or those of a run of records, in C where that was built."""

from __future__ import annotations

from hashlib import sha256
from struct import Struct

from sandtrail.store import native
from sandtrail.store.spool import parse_records

__all__ = ["SALT_SIZE", "frame_leaf", "record_leaves"]

SALT_SIZE = 32
_HEADS = {width: Struct(f"<c{width}sQQBQQQ") for width in (0, SALT_SIZE)}


def frame_leaf(
    stream: int, seq: int, kind: int, when: tuple[int, int, int], payload: bytes, salt: bytes = b""
) -> bytes:
    """The RFC 6962 leaf hash of a frame: SHA-256(00 || salt || stream || seq || kind || three clocks || payload).

    All integers are little-endian, 64 bits wide but for the kind (8). Place, source, order and times are inside the
    leaf, so none of them can be changed without changing the segment's root; the salt (32 bytes, none in format 1)
    keeps a guessed payload from being confirmed once the data key is gone.
    """
    return sha256(_HEADS[len(salt)].pack(b"\0", salt, stream, seq, kind, *when) + payload).digest()


def record_leaves(records: bytes, salts: bytes = b"") -> bytes:
    """The leaves of all frames of a run of records, one after the other; `salts`: theirs likewise, or none in format 1.

    Raises ValueError for bytes that are no records, or other frames than there are salts for. Checksums are not looked
    at: whoever asks has compared them, or a digest over all of it.
    """
    if native.hashing is not None:
        return native.hashing.leaves(records, salts)
    width = SALT_SIZE if salts else 0
    pack = _HEADS[width].pack
    messages = []
    end = mark = 0
    for end, (kind, _, stream, seq, when, lengths, payloads) in parse_records(records, checked=True):  # noqa: B007
        # The hottest loop of sealing and verifying: what is the same for the frames is out of it, and hashing goes
        # apart from asking for the digests.
        body, at = bytes(payloads), 0
        for number, length in enumerate(lengths, seq):
            messages.append(
                pack(b"\0", salts[mark : mark + width], stream, number, kind, *when) + body[at : at + length]
            )
            at, mark = at + length, mark + width
    if end != len(records) or mark != len(salts):
        raise ValueError(f"{len(records)} bytes are not the records of as many frames as {len(salts)} bytes of salts")
    return b"".join([hashed.digest() for hashed in map(sha256, messages)])
