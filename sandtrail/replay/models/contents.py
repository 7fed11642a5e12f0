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
from sandtrail.replay.models.multipart import MAX_PARTS as PARTS_READ
from sandtrail.replay.models.multipart import boundary_of, file_name, parts_of

__all__ = ["LEAST_BASE64", "MAX_FIELDS", "MAX_NODES", "MAX_PARTS", "MAX_SEARCHED", "contents_of", "of_query"]

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
"""Values of a JSON body that are looked at; the others are counted."""
MAX_FIELDS = 1000
"""Fields of a form or a query that are looked at; the others are counted."""


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
    so that digests of parts may not be those of the bytes sent. What was not looked at is told: `unread`, all of a body
    that is too long or whose coding cannot be undone, or `unlooked`, so many of its values, fields or parts.
    """
    media = content_type(headers)[:100]
    found: dict[str, Any] = {"media": scrub(media)} if media else {}
    if name := file_name(header(headers, "content-disposition")):
        found["file"] = name
    plain, troubles = decode_body(body, [] if decoded else headers)
    search = _Search()
    if plain and (decoded or plain != body):
        search.pieces.append(_Piece("decoded", plain, cut=cut or bool(troubles)))
    boundary = boundary_of(header(headers, "content-type"))
    if boundary:
        search.parts(plain, boundary, cut=cut)
    elif LEAST_BASE64 <= len(plain) <= MAX_SEARCHED and _RUN.search(plain):
        search.text(plain, media)
    parts = [piece.as_dict() | ({"redacted": True} if redacted else {}) for piece in _most(search.pieces)]
    if parts:
        found |= {"parts": parts, "parts_total": len(search.pieces)}
    if (len(plain) > MAX_SEARCHED and not boundary) or (troubles and plain == body):
        found["unread"] = True
    if search.left:
        found["unlooked"] = search.left
    return found


def of_query(url: str) -> tuple[list[dict[str, Any]], int]:
    """What is carried in a URL as base64, and how many fields of its query were not looked at."""
    try:
        query = urlsplit(url).query
    except ValueError:
        return [], 0
    search = _Search()
    if len(query) >= LEAST_BASE64:
        search.fields("query", query)
    return [piece.as_dict() for piece in _most(search.pieces)], search.left


def _most(pieces: list[_Piece]) -> list[_Piece]:
    return pieces if len(pieces) <= MAX_PARTS else sorted(pieces, key=lambda p: -len(p.data))[:MAX_PARTS]


class _Search:
    """Pieces that were found, and how much there was no time to look at."""

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self.left = 0

    def parts(self, body: bytes, boundary: bytes, *, cut: bool) -> None:
        """The parts of a multipart body, and what is base64 in those that are no files."""
        parts = parts_of(body, boundary)
        for part in parts:
            self.pieces.append(_Piece("part", part.data, part.name, part.file, part.media, part.cut or cut))
            if part.file or not _RUN.search(part.data):
                continue
            if len(part.data) <= MAX_SEARCHED:
                self._base64("base64", part.name, part.data.decode("utf-8", "replace"))
            else:
                self.left += 1
        if len(parts) >= PARTS_READ:
            # The boundary stands before each part, and once more after the last.
            self.left += max(body.count(b"--" + boundary) - 1 - len(parts), 0)

    def text(self, plain: bytes, media: str) -> None:
        """What is base64 in a body of text: in JSON, in a form, or all of it."""
        if opening(plain)[:1] in (b"{", b"["):
            value, trouble = load_json(plain)
            if not trouble:
                self._json(value)
                return
        text, before = plain.decode("utf-8", "replace"), len(self.pieces)
        self._base64("base64", "", text)
        if len(self.pieces) == before and media == "application/x-www-form-urlencoded":
            self.fields("base64", text)

    def fields(self, form: str, text: str) -> None:
        """What is base64 in the fields of a form or a query."""
        fields = text.split("&", MAX_FIELDS)
        if len(fields) > MAX_FIELDS:
            self.left += fields.pop().count("&") + 1
        for name, value in parse_qsl("&".join(fields)):
            self._base64(form, name, value)

    def _base64(self, form: str, name: str, text: str) -> None:
        self.pieces += [_Piece(form, data, scrub(name)[:200]) for data in _decoded(text)]

    def _json(self, value: Any) -> None:
        """Fields that are base64, each by its way through the object; a stack, since nesting is the sender's to choose,
        of iterators, since the length of a list is as well."""
        stack: list[tuple[str, Iterator[tuple[str, Any]]]] = [("", iter([("", value)]))]
        for _ in range(MAX_NODES):
            while (found := next(stack[-1][1], None)) is None:
                stack.pop()
                if not stack:
                    return
            (above, _), (name, node) = stack[-1], found
            path = f"{above}{name}"[-400:]
            if isinstance(node, str):
                self._base64("base64", path.removeprefix("."), node)
            else:
                stack.append((path, _inner(node)))
        nodes = [node for _, rest in stack for _, node in rest]
        while nodes:
            self.left += len(nodes)
            nodes = [inner for node in nodes if not isinstance(node, str) for _, inner in _inner(node)]


def _inner(node: Mapping[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    """What may hold base64 in it, each with its step of the way."""
    if isinstance(node, Mapping):
        return ((f".{key}"[-400:], inner) for key, inner in node.items() if _may(inner))
    return ((f"[{place}]", inner) for place, inner in enumerate(node) if _may(inner))


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
