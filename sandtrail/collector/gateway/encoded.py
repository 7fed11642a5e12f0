"""Secrets that stand in base64 inside of something else: an event of Bedrock's, `user:password`, JSON in a token.

Three bytes become four characters, so a secret has three spellings, by where in its text it begins; in each of two
alphabets. What stands for it there has its length and is base64 too: the text around it can still be decoded, and holds
the mark, as far as there is room for it. The characters at both ends that also hold bits of what stands beside stay:
they tell at most four bits of the first byte and of the last one. Specification: RFC 4648, sections 4 and 5.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

__all__ = ["alone", "base64_forms"]

_EDGES = b"*", b"j"
"""Whatever a neighbour's bits make of these bytes, they are no quotation mark, backslash or control character."""


def base64_forms(secret: bytes, mark: bytes) -> Iterator[tuple[bytes, bytes]]:
    """How base64 may spell a secret, and what is to stand there: of the same length, and decoded it reads as `mark`."""
    cover = _EDGES[0] + mark[: len(secret) - 2].ljust(len(secret) - 2, b"*") + _EDGES[1]
    for shift in range(3):
        for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
            yield alone(encode, 6, shift, secret), alone(encode, 6, shift, cover)


def alone(encode: Callable[[bytes], bytes], bits: int, shift: int, text: bytes) -> bytes:
    """The characters, of so many bits each, that hold bits of the text alone, with `shift` bytes before it."""
    return encode(bytes(shift) + text)[-(-8 * shift // bits) : 8 * (shift + len(text)) // bits]
