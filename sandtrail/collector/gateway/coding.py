"""Content codings undone piece by piece, never more at a time than asked for. RFC 9110 section 8.4, RFC 9659.

A decoder yields pieces of at most about `STEP` bytes (zstd: a few MiB), so a caller can stop a bomb at any size.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli  # type: ignore[import-untyped]  # it has no type hints
import zstandard

__all__ = ["Decoder", "UndecodableError", "decoder_for"]

STEP = 64 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
# At least a block header of 3 bytes and a byte for 128 KiB: so much input becomes 8 MiB at the most.
_ZSTD_SLICE = 256


class UndecodableError(Exception):
    """The bytes are not coded as their header says; `rest` is what was not decoded."""

    def __init__(self, rest: bytes) -> None:
        super().__init__("not coded as the header says")
        self.rest = rest


class Decoder(Protocol):
    """Undoes one content coding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes decode to. Raises UndecodableError."""
        ...


class _Zlib:
    """gzip (RFC 1952, any number of members) and deflate, which some senders write without its zlib wrapping."""

    def __init__(self, coding: str) -> None:
        self._gzip = coding != "deflate"
        self._inflater: zlib._Decompress | None = zlib.decompressobj(31) if self._gzip else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflater is None and data:
            wrapped = data[0] & 0x0F == 8 and data[0] >> 4 <= 7
            self._inflater = zlib.decompressobj(15 if wrapped else -15)
        while data and self._inflater is not None:
            inflater = self._inflater
            if inflater.eof:
                if not self._gzip or data[: len(_GZIP_MAGIC)] != _GZIP_MAGIC[: len(data)]:
                    raise UndecodableError(data)
                inflater = self._inflater = zlib.decompressobj(31)
            while True:
                try:
                    piece = inflater.decompress(data, STEP)
                except zlib.error:
                    raise UndecodableError(data) from None
                data = inflater.unconsumed_tail
                if piece:
                    yield piece
                if inflater.eof or (not data and len(piece) < STEP):
                    break
            data = inflater.unused_data


class _Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        self._inflater = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        if data and self._inflater.is_finished():
            raise UndecodableError(data)
        try:
            piece = self._inflater.process(data, output_buffer_limit=STEP)
            while piece or not self._inflater.can_accept_more_data():
                yield piece
                piece = self._inflater.process(b"", output_buffer_limit=STEP)
        except brotli.error:
            raise UndecodableError(data) from None


class _Zstd:
    """RFC 8878; a window above 8 MiB is not allowed in HTTP."""

    def __init__(self) -> None:
        context = zstandard.ZstdDecompressor(max_window_size=8 << 20)
        self._inflater = context.decompressobj(read_across_frames=True)

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE):
            try:
                piece = self._inflater.decompress(data[start : start + _ZSTD_SLICE])
            except zstandard.ZstdError:
                raise UndecodableError(data[start:]) from None
            if piece:
                yield piece


class _Chain:
    """Several codings, the last applied first."""

    def __init__(self, outer: Decoder, inner: Decoder) -> None:
        self._outer, self._inner = outer, inner

    def feed(self, data: bytes) -> Iterator[bytes]:
        for piece in self._outer.feed(data):
            yield from self._inner.feed(piece)


def decoder_for(content_encoding: str) -> Decoder | None:
    """The decoder for a Content-Encoding header; None where nothing is to be undone, or nothing can be."""
    names = [name.strip().lower() for name in content_encoding.split(",")]
    decoder: Decoder | None = None
    for name in [name for name in names if name not in ("", "identity")][:3]:
        one: Decoder
        if name in ("gzip", "x-gzip", "deflate"):
            one = _Zlib(name)
        elif name == "br":
            one = _Brotli()
        elif name == "zstd":
            one = _Zstd()
        else:
            return None
        decoder = one if decoder is None else _Chain(one, decoder)
    return decoder
