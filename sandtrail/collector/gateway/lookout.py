"""Finds the placeholders of secrets where they do not belong, however they are written.

Looked for is the part of a placeholder that nobody can guess, 32 hexadecimal digits: in upper and lower case, percent
encoded (also twice), as JSON's `\\u0041`, in base64 and base32 at each of their alignments, in hexadecimal, under a
content coding, and in a body that is a gzip or zstd file. Line breaks, dots and whatever else stands between the
characters make no difference. A placeholder is worth nothing to whoever gets it. That it is sent is what is worth
knowing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from functools import lru_cache

from sandtrail.collector.gateway.coding import UndecodableError, decoder_for
from sandtrail.collector.gateway.encoded import alone
from sandtrail.collector.gateway.words import Words
from sandtrail.collector.secrets import Secret

__all__ = ["Lookout", "spellings"]

# The longest form of 32 digits is thirty bytes for each of 64: hexadecimal in JSON's escapes, percent encoded twice.
_LONGEST, _SHORTEST = 2048, 32
# What percent escapes have to become for a decoder in C that knows another sign for them; no spelling has the others.
_AS_QUOTED = bytes.maketrans(b"%=\r\n", b"=   ")
_DEEPEST = 3
# No spelling has any but letters and digits: base64 is wrapped after so many characters, a name has dots, a wide
# character has a zero byte, and whoever splits a text on purpose puts something in between.
_BETWEEN = bytes(byte for byte in range(128) if not chr(byte).isalnum())
_FILES = ((b"\x1f\x8b\x08", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
_MOST_DECODED = 64 << 20


class Lookout:
    """Over one text that comes in pieces; `coding` is the content coding that it is under."""

    def __init__(self, secrets: Iterable[Secret], coding: str = "") -> None:
        self._secrets = tuple(secrets)
        self._forms, self._by_form = _compiled(self._secrets)
        self._decoder = decoder_for(coding) if self._secrets and coding else None
        self._begun = False
        self._decodable = _MOST_DECODED
        self._tail = {"wire": b"", "decoded": b""}

    def feed(self, data: bytes) -> Secret | None:
        """The next piece: the secret whose placeholder is complete with it, if one is."""
        if not self._secrets or not data:
            return None
        if not self._begun and self._decoder is None:
            self._decoder = next((decoder_for(kind) for magic, kind in _FILES if data.startswith(magic)), None)
        self._begun = True
        if found := self._look("wire", data):
            return found
        if self._decoder is None:
            return None
        try:
            for piece in self._decoder.feed(data):
                self._decodable -= len(piece)
                if found := self._look("decoded", piece):
                    return found
                if self._decodable < 0:
                    self._decoder = None
                    break
        except UndecodableError:
            self._decoder = None  # the rest is looked at as it is
        return None

    def seen_in(self, text: bytes) -> Secret | None:
        """In a text by itself."""
        return self._search(text) if self._secrets else None

    def _look(self, what: str, data: bytes) -> Secret | None:
        window = self._tail[what] + data
        self._tail[what] = window[-_LONGEST:]
        return self._search(window)

    def _search(self, text: bytes) -> Secret | None:
        for _ in range(_DEEPEST):
            if found := self._found(text):
                return found
            if b"%" not in text and b"\\u00" not in text:
                return None
            text = _undone(text)
        return self._found(text)

    def _found(self, text: bytes) -> Secret | None:
        squeezed = text.replace(b"\\n", b"").replace(b"\\r", b"").translate(None, _BETWEEN)
        for one in (text, squeezed) if len(squeezed) < len(text) else (text,):
            for _, form in self._forms.find(one) if len(one) >= _SHORTEST else ():
                return self._by_form[form]
        return None


def _undone(text: bytes) -> bytes:
    """A text with its escapes undone, as far as a placeholder may be in them. In C throughout: whoever sends the text
    decides how many there are, and everybody waits."""
    escaped = text.replace(b"\\u00", b"%").replace(b"%%", b" %").replace(b"%%", b" %")
    return binascii.a2b_qp(escaped.translate(_AS_QUOTED))


@lru_cache(maxsize=256)
def _compiled(secrets: tuple[Secret, ...]) -> tuple[Words, dict[bytes, Secret]]:
    by_form = {form.lower(): secret for secret in secrets for form in spellings(secret.core.encode())}
    return Words((form, True) for form in by_form), by_form


def spellings(core: bytes) -> set[bytes]:
    """How the 32 digits may be written. Hexadecimal digits give none of the characters in which base64's alphabets
    differ."""
    forms = {core}
    for digits in (core, core.upper()):
        forms.add(digits.hex().encode())
        forms |= {alone(base64.b64encode, 6, shift, digits) for shift in range(3)}
        forms |= {alone(base64.b32encode, 5, shift, digits) for shift in range(5)}
    return forms
