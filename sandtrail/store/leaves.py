"""The Merkle leaf that commits to a frame: hashed for frames that were received together, in C where that was built."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from struct import Struct, pack

from sandtrail.store import native

__all__ = ["SALT_SIZE", "frame_leaf", "frame_leaves"]

SALT_SIZE = 32
_END = 1 << 64
_FIELDS = Struct("<QQBQQQ")
_HEADS = {0: Struct("<c0sQQBQQQ"), SALT_SIZE: Struct(f"<c{SALT_SIZE}sQQBQQQ")}


def frame_leaf(
    stream: int, seq: int, kind: int, when: tuple[int, int, int], payload: bytes, salt: bytes = b""
) -> bytes:
    """The RFC 6962 leaf hash of a frame: SHA-256(00 || salt || stream || seq || kind || three clocks || payload).

    All integers are little-endian, 64 bits wide but for the kind (8). Place, source, order and times are inside the
    leaf, so none of them can be changed without changing the segment's root; the salt (32 bytes, none in format 1)
    keeps a guessed payload from being confirmed once the data key is gone.
    """
    return frame_leaves(stream, seq, kind, when, (len(payload),), payload, salt)


def frame_leaves(
    stream: int,
    seq: int,
    kind: int,
    when: tuple[int, int, int],
    lengths: Sequence[int],
    payloads: bytes | memoryview,
    salts: bytes = b"",
) -> bytes:
    """The leaves of frames that were received together, the first of which is `seq`, in one piece; see `frame_leaf`.

    `payloads` and `salts` are the frames' own, one after the other. Raises ValueError when they are not as many as
    `lengths` says, struct.error when a number does not fit its field.
    """
    count = len(lengths)
    if len(salts) not in (0, SALT_SIZE * count) or sum(lengths) != len(payloads) or seq + count > _END:
        raise ValueError(f"{len(payloads)} bytes with {len(salts)} of salts are not those of {count} frames from {seq}")
    fields, sizes = _FIELDS.pack(stream, seq, kind, *when), pack(f"<{count}I", *lengths)
    if native.hashing is not None:
        return native.hashing.leaves(fields, sizes, payloads, salts)
    # All that is the same for the frames is out of the loop, and hashing goes apart from asking for the digests.
    width = SALT_SIZE if salts else 0
    pack_head, body = _HEADS[width].pack, bytes(payloads)
    messages = []
    at = mark = 0
    for length in lengths:
        end, past = at + length, mark + width
        messages.append(pack_head(b"\0", salts[mark:past], stream, seq, kind, *when) + body[at:end])
        at, mark, seq = end, past, seq + 1
    return b"".join([hashed.digest() for hashed in map(sha256, messages)])
