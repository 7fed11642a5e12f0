"""A body on its way past: counted and hashed whole, kept as far as the cap goes, with nothing secret in what is kept.

Kept is the body as it was on the wire. Only where a content-coded body holds a credential is it kept decoded, with the
credential replaced: the wire bytes would give it away to whoever decodes them. Coded bodies that are kept in chunks are
kept decoded always, because a chunk cannot be taken back when the next one completes a credential.
"""

from __future__ import annotations

import hashlib
from io import BytesIO

from sandtrail.collector.gateway.coding import UndecodableError, decoder_for
from sandtrail.collector.gateway.redact import Redactor

__all__ = ["Tap"]

_GROWTH = 4
"""A body is decoded to at most so many times its cap: what a bomb costs."""
_DENSE = 16 << 10
"""And so many places where a credential may begin are looked at in what one piece on the wire is decoded to. A text
that has them everywhere would hold up everybody's traffic for a second; others have a few hundred."""
_RATIO, _FREE = 32, 512 << 10
"""Beyond its first 512 KiB a text that is so many times its coded size is a bomb too: a few kB must not cost
everybody's time. Streams of a model's words, which repeat themselves more than most, come to a fifth of that."""


class Tap:
    """One body. `whole` bodies are asked for at the end by `kept`, others are taken from `feed` piece by piece."""

    def __init__(self, redactor: Redactor, coding: str, cap: int, *, whole: bool) -> None:
        self.size = 0
        """Bytes on the wire so far."""
        self.cut = False
        """Whether something of the body is missing in the record; settled by `finish` and `kept`."""
        self._digest = hashlib.sha256()
        self._room = cap
        self._whole = whole
        self._decoder = decoder_for(coding)
        self._coded = self._decoder is not None
        self._decodable = cap * _GROWTH
        self._decoded = 0
        self._redactor = redactor
        self._scan = redactor.scan()
        self._found = 0
        self._out = BytesIO()
        # The wire bytes of a coded body have places of their own for a text: names, comments, blocks to skip.
        self._wire_scan = redactor.scan() if whole and self._coded else None
        self._wire = bytearray()
        self._full = False
        self._stopped = False

    @property
    def decoded(self) -> bool:
        """Whether the pieces that `feed` returns had a content coding, which is undone."""
        return self._coded and not self._whole

    @property
    def sha256(self) -> str:
        """Of the wire bytes so far, credentials and all."""
        return self._digest.hexdigest()

    @property
    def redacted(self) -> int:
        """How many credentials were replaced."""
        return self._found + self._scan.count

    def feed(self, data: bytes) -> bytes:
        """The next bytes; returns what can be recorded of the body now, unless it is kept whole."""
        self.size += len(data)
        self._digest.update(data)
        if self._stopped:
            return b""
        if self._wire_scan is not None:
            self._wire += data
            self._wire_scan.feed(data)
        if self._decoder is None:
            return self._keep(self._scan.feed(data))
        kept, tried = [], self._scan.tried
        try:
            for piece in self._decoder.feed(data):
                share = min(self._decodable, max(_FREE, self.size * _RATIO)) - self._decoded
                self._decoded += len(piece)
                kept.append(self._keep(self._scan.feed(piece[:share])))
                if len(piece) > share or self._scan.tried - tried > _DENSE:
                    self._stopped = True
                if self._stopped:
                    break
        except UndecodableError as error:
            # What follows is another text, and is recorded as it came.
            self._decoder = None
            kept.append(self._keep(self._scan.finish()))
            self._scan, self._found = self._redactor.scan(), self._scan.count
            kept.append(self._keep(self._scan.feed(error.rest)))
        return b"".join(kept)

    def finish(self, *, cut: bool = False) -> bytes:
        """The end of the body, or with `cut` the place where it broke off; returns the rest to record."""
        rest = b"" if self._stopped else self._keep(self._scan.finish(cut=cut))
        self.cut = cut or self._stopped
        return rest

    def kept(self) -> tuple[bytes, bool]:
        """A whole body as it is to be recorded, after `finish`, and whether that is its decoded form."""
        if self._wire_scan is None:
            return self._out.getvalue(), False
        self._wire_scan.finish()
        if self.redacted or self._wire_scan.count or self._stopped:
            self.cut = self.cut or self._full
            return self._out.getvalue(), True
        return bytes(self._wire), False

    def _keep(self, data: bytes) -> bytes:
        if len(data) > self._room:
            data, self._full = data[: self._room], True
            # A whole coded body may yet turn out to be clean, and is then kept as it was on the wire.
            self._stopped = self._wire_scan is None
        self._room -= len(data)
        if self._whole:
            self._out.write(data)
            return b""
        return data
