"""HTTP bodies: content codings undone within bounds, JSON read without trust. RFC 9110 section 8.4."""

from __future__ import annotations

import codecs
import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import brotli  # type: ignore[import-untyped]  # it has no type hints
import zstandard

__all__ = ["MAX_BODY", "Headers", "content_type", "decode_body", "header", "load_json", "opening"]

MAX_BODY = 32 * 1024 * 1024
"""No body grows beyond this, however small it was on the wire."""
_STEP = 64 * 1024
_MAX_MEMBERS = 1000

Headers = Sequence[tuple[str, str]]


class _Inflater(Protocol):
    def __call__(self, data: bytes, limit: int, /) -> bytes: ...


def header(headers: Headers, name: str) -> str:
    """The values of a header joined by commas; empty where there is none."""
    return ", ".join(value for key, value in headers if key.lower() == name)


def content_type(headers: Headers) -> str:
    """The media type alone, in lower case."""
    return header(headers, "content-type").split(";")[0].strip().lower()


def opening(body: bytes) -> bytes:
    """The first bytes of a body, by which its form is told: after a byte order mark and blank space."""
    return body.removeprefix(codecs.BOM_UTF8).lstrip()[:16]


def decode_body(data: bytes, headers: Headers, limit: int = MAX_BODY) -> tuple[bytes, list[str]]:
    """Undo the content codings of a body, as far as it goes: (bytes, what went wrong).

    A body that was cut off yields what it had until then. One that is not coded as its header says is taken as it is:
    some gateways and libraries decode the body and leave the header.
    """
    codings = [c for c in (c.strip().lower() for c in header(headers, "content-encoding").split(",")) if c]
    problems: list[str] = []
    if len(codings) > 4:
        return data[:limit], [f"{len(codings)} content codings, none undone"]
    for coding in reversed(codings):
        if coding == "identity":
            continue
        decoder = _DECODERS.get(coding)
        if decoder is None:
            problems.append(f"unknown content coding {coding[:40]!r}")
            break
        out, trouble = decoder(data, limit)
        if trouble and not out:
            problems.append(f"not {coding}: {trouble}")
            continue
        if trouble:
            problems.append(f"{coding} body: {trouble}")
        data = out
    if len(data) > limit:
        problems.append(f"body longer than {limit} bytes, the rest is left out")
        data = data[:limit]
    return data, problems


def _drain(
    feed: Callable[[bytes, int], bytes], finished: Callable[[], bool], data: bytes, limit: int
) -> tuple[bytes, str]:
    out = bytearray()
    try:
        for start in range(0, len(data), _STEP):
            out += feed(data[start : start + _STEP], limit + 1 - len(out))
            if len(out) > limit:
                return bytes(out), ""
            if finished():
                break
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        return bytes(out), str(error)[:120] or type(error).__name__
    return bytes(out), "" if finished() else "ends early"


def _gzip(data: bytes, limit: int) -> tuple[bytes, str]:
    """Any number of members (RFC 1952 section 2.2), as clients read it and the gateway does."""
    left, out = memoryview(data), bytearray()
    for _ in range(_MAX_MEMBERS):
        inflater = zlib.decompressobj(31)
        fed = 0
        try:
            while fed < len(left) and not inflater.eof and len(out) <= limit:
                out += inflater.decompress(left[fed : fed + _STEP], limit + 1 - len(out))
                fed = min(fed + _STEP, len(left))
        except zlib.error as error:
            return bytes(out), str(error)[:120]
        if len(out) > limit or not inflater.eof:
            return bytes(out), "" if len(out) > limit else "ends early"
        left = left[fed - len(inflater.unused_data) :]
        if not left:
            return bytes(out), ""
    return bytes(out), f"more than {_MAX_MEMBERS} members"


def _deflate(data: bytes, limit: int) -> tuple[bytes, str]:
    # "deflate" means zlib (RFC 1950), but senders of bare RFC 1951 data exist.
    out, trouble = _zlib(data, limit, 15)
    return (out, trouble) if out or not trouble else _zlib(data, limit, -15)


def _zlib(data: bytes, limit: int, window: int) -> tuple[bytes, str]:
    inflater = zlib.decompressobj(window)
    return _drain(lambda part, room: inflater.decompress(part, room), lambda: inflater.eof, data, limit)


def _brotli(data: bytes, limit: int) -> tuple[bytes, str]:
    inflater = brotli.Decompressor()

    def feed(part: bytes, room: int) -> bytes:
        out = bytearray(inflater.process(part, output_buffer_limit=room))
        while not inflater.can_accept_more_data() and len(out) < room:
            out += inflater.process(b"", output_buffer_limit=room - len(out))
        return bytes(out)

    return _drain(feed, inflater.is_finished, data, limit)


def _zstd(data: bytes, limit: int) -> tuple[bytes, str]:
    # A window larger than 8 MiB is not allowed in HTTP (RFC 9659).
    inflater = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024)
    out = bytearray()
    try:
        with inflater.stream_reader(data, read_across_frames=True) as reader:
            while len(out) <= limit and (part := reader.read(_STEP)):
                out += part
    except zstandard.ZstdError as error:
        return bytes(out), str(error)[:120]
    return bytes(out), ""


_DECODERS: dict[str, Callable[[bytes, int], tuple[bytes, str]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}


def load_json(data: bytes | str) -> tuple[Any, str]:
    """(value, "") or (None, why not). Takes bytes that are not UTF-8, with U+FFFD in their place."""
    text = data.decode("utf-8-sig", "replace") if isinstance(data, bytes) else data
    try:
        return json.loads(text), ""
    except RecursionError:
        return None, "nested too deeply"
    except ValueError as error:  # also an integer of more digits than Python reads
        return None, str(error)[:120]
