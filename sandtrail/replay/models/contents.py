"""What a body carries, by digest: so that bytes of a file can be found again in what left a sandbox or came into it.

A file seldom is the whole of a body: it is a part of a form, base64 in JSON, compressed on its way. Each form in which
bytes are plainly there is named with its size and SHA-256; text that was put into JSON as it is, and what was encrypted
or packed by the sender, is not found.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sandtrail.replay.models.body import Headers, content_type, decode_body, header, load_json, opening
from sandtrail.replay.models.call import scrub
from sandtrail.replay.models.multipart import boundary_of, file_name, parts_of

__all__ = ["LEAST_BASE64", "MAX_PARTS", "MAX_SEARCHED", "contents_of", "of_query"]

LEAST_BASE64 = 128
"""So many characters of base64 are looked at; fewer are identifiers and hashes more often than content."""
MAX_PARTS = 24
"""Parts of a body that are kept by digest; all are counted."""
MAX_SEARCHED = 8 * 1024 * 1024
"""A longer body is not searched for base64; it says `unread` then."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_RUN = re.compile(rb"[A-Za-z0-9+/_-]{60}")
_URLSAFE = str.maketrans("-_", "+/")
_LAYOUT = str.maketrans(" ", "+", "\r\n\t")
MAX_NODES = 200_000


@dataclass(frozen=True, slots=True)
class _Piece:
    """`as`: `decoded` (the body without its content coding), `part` (of a multipart), `base64`, `query`."""

    form: str
    data: bytes
    name: str = ""
    file: str = ""
    media: str = ""
    cut: bool = False

    def as_dict(self) -> dict[str, Any]:
        told = {"as": self.form, "name": self.name, "file": self.file, "media": self.media}
        found: dict[str, Any] = {key: value for key, value in told.items() if value}
        found |= {"bytes": len(self.data), "sha256": sha256(self.data).hexdigest()}
        return {**found, "cut": True} if self.cut else found


def contents_of(body: bytes, headers: Headers, *, decoded: bool, cut: bool, redacted: bool) -> dict[str, Any]:
    """What a body carries: `media`, `file` where the headers name one, `parts` and how many there are in all.

    `decoded`: the record has the body without its content coding. `redacted`: credentials were taken out of the record,
    so that digests of parts may not be those of the bytes sent.
    """
    media = content_type(headers)[:100]
    found: dict[str, Any] = {"media": scrub(media)} if media else {}
    if name := file_name(header(headers, "content-disposition")):
        found["file"] = name
    plain, _ = decode_body(body, [] if decoded else headers)
    coded = decoded or bool(header(headers, "content-encoding").strip().lower() not in ("", "identity"))
    pieces = _pieces(plain, headers, media, coded=coded, cut=cut)
    parts = [piece.as_dict() | ({"redacted": True} if redacted else {}) for piece in _most(pieces)]
    if parts:
        found |= {"parts": parts, "parts_total": len(pieces)}
    if len(plain) > MAX_SEARCHED and not boundary_of(header(headers, "content-type")):
        found["unread"] = True
    return found


def of_query(url: str) -> list[dict[str, Any]]:
    """What is carried in a URL as base64."""
    try:
        query = urlsplit(url).query
        fields = parse_qsl(query, max_num_fields=1000) if len(query) >= LEAST_BASE64 else []
    except ValueError:
        return []
    pieces = [_Piece("query", data, scrub(name)[:200]) for name, value in fields for data in _decoded(value)]
    return [piece.as_dict() for piece in _most(pieces)]


def _most(pieces: list[_Piece]) -> list[_Piece]:
    return pieces if len(pieces) <= MAX_PARTS else sorted(pieces, key=lambda p: -len(p.data))[:MAX_PARTS]


def _pieces(plain: bytes, headers: Headers, media: str, *, coded: bool, cut: bool) -> list[_Piece]:
    pieces = [_Piece("decoded", plain, cut=cut)] if coded and plain else []
    boundary = boundary_of(header(headers, "content-type"))
    if boundary:
        for part in parts_of(plain, boundary):
            pieces.append(_Piece("part", part.data, part.name, part.file, part.media, part.cut or cut))
            looked = not part.file and len(part.data) <= MAX_SEARCHED and _RUN.search(part.data)
            text = part.data if looked else b""
            pieces += [_Piece("base64", data, part.name) for data in _decoded(text.decode("utf-8", "replace"))]
        return pieces
    if len(plain) < LEAST_BASE64 or len(plain) > MAX_SEARCHED or not _RUN.search(plain):
        return pieces
    return pieces + [_Piece("base64", data, name) for name, data in _in_text(plain, media)]


def _in_text(plain: bytes, media: str) -> Iterator[tuple[str, bytes]]:
    if opening(plain)[:1] in (b"{", b"["):
        value, trouble = load_json(plain)
        if not trouble:
            yield from _in_json(value)
            return
    text = plain.decode("utf-8", "replace")
    whole = list(_decoded(text))
    if whole or media != "application/x-www-form-urlencoded":
        yield from (("", data) for data in whole)
        return
    try:
        fields = parse_qsl(text, max_num_fields=1000)
    except ValueError:
        return
    for name, value in fields:
        yield from ((scrub(name)[:200], data) for data in _decoded(value))


def _in_json(value: Any) -> Iterator[tuple[str, bytes]]:
    """Fields that are base64, each by its way through the object; a stack, since nesting is the sender's to choose, of
    iterators, since the length of a list is as well."""
    stack: list[Iterator[tuple[str, Any]]] = [iter([("", value)])]
    for _ in range(MAX_NODES):
        while (found := next(stack[-1], None)) is None:
            stack.pop()
            if not stack:
                return
        path, node = found
        if isinstance(node, str):
            yield from ((scrub(path)[:200], data) for data in _decoded(node))
        elif isinstance(node, Mapping | list):
            stack.append(_inner(path, node))


def _inner(path: str, node: Mapping[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    """What may hold base64 in it."""
    if isinstance(node, Mapping):
        return ((f"{path}.{key}"[-400:] if path else key[:400], inner) for key, inner in node.items() if _may(inner))
    return ((f"{path}[{place}]"[-400:], inner) for place, inner in enumerate(node) if _may(inner))


def _may(node: Any) -> bool:
    return len(node) >= LEAST_BASE64 if isinstance(node, str) else bool(node) and isinstance(node, Mapping | list)


def _decoded(text: str) -> Iterator[bytes]:
    """The bytes of a text that is base64 and nothing else."""
    if len(text) < LEAST_BASE64:
        return
    if text.startswith("data:"):
        head, _, rest = text.partition(",")
        text = rest if head.endswith(";base64") else text
    # Lines end where mail ends them; a form turns a plus into a space where its sender did not care.
    text = text.translate(_LAYOUT)
    if len(text) < LEAST_BASE64 or _BASE64.fullmatch(text) is None:
        return
    plain = text.rstrip("=").translate(_URLSAFE)
    if len(plain) % 4 == 1:
        return
    try:
        yield base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return
