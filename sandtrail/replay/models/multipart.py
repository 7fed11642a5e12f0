"""Multipart bodies taken apart (RFC 2046 section 5.1, RFC 7578), within bounds and without trust."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from sandtrail.replay.models.call import scrub

__all__ = ["MAX_PARTS", "Part", "boundary_of", "file_name", "parts_of"]

MAX_PARTS = 1000
MAX_HEAD = 16 * 1024
_PARAMETER = re.compile(r';\s*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;"\s]*)')


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body."""

    name: str
    file: str
    media: str
    data: bytes
    """Its content; where it was sent as base64 or in quoted form, as it is."""
    cut: bool
    """Its end was not seen."""


def boundary_of(media: str) -> bytes:
    """The boundary that a Content-Type names; empty where it is no multipart."""
    if not media.strip().lower().startswith("multipart/"):
        return b""
    found = _parameters(media).get("boundary", "")
    return found.encode("utf-8", "replace")[:200]


def parts_of(body: bytes, boundary: bytes) -> list[Part]:
    """The parts of a body, at most so many. A body that does not begin with its boundary has none."""
    mark = b"--" + boundary
    found: list[Part] = []
    at = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    if not boundary or (at < 2 and not body.startswith(mark)):
        return []
    while len(found) < MAX_PARTS:
        start = at + len(mark)
        if body[start : start + 2] == b"--" or start > len(body):
            return found
        line = body.find(b"\n", start, start + 200)
        if line < 0:
            return found
        at = body.find(b"\r\n" + mark, line - 1)
        whole = at >= 0
        end = max(at, line + 1) if whole else len(body)
        found.append(_part(body[line + 1 : end], cut=not whole))
        if not whole:
            return found
        at += 2
    return found


def _part(raw: bytes, *, cut: bool) -> Part:
    if raw.startswith(b"\r\n"):
        head, data = b"", raw[2:]
    else:
        head, _, data = raw.partition(b"\r\n\r\n")
    headers: dict[str, str] = {}
    for line in head[:MAX_HEAD].split(b"\r\n")[:100]:
        name, _, value = line.partition(b":")
        headers[name.strip().lower().decode("latin-1")] = value.strip().decode("utf-8", "replace")
    told = headers.get("content-disposition", "")
    coding = headers.get("content-transfer-encoding", "").lower()
    if coding == "base64":
        data = _plain(data)
    elif coding == "quoted-printable":
        data = binascii.a2b_qp(data)
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Part(scrub(_parameters(told).get("name", ""))[:200], file_name(told), scrub(media)[:100], data, cut)


def _plain(data: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(data.split()) + b"==")
    except (binascii.Error, ValueError):
        return data


def file_name(disposition: str) -> str:
    """The file name of a Content-Disposition, the extended one (RFC 8187) first; empty where it has none."""
    found = _parameters(disposition)
    coded = found.get("filename*", "").split("'", 2)
    if len(coded) == 3:
        data = unquote_to_bytes(coded[2])
        name = data.decode("latin-1" if coded[0].lower() == "iso-8859-1" else "utf-8", "replace")
    else:
        name = found.get("filename", "")
    return scrub(name)[:200]


def _parameters(value: str) -> dict[str, str]:
    """Parameters of a header's value; of one that comes twice the first."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(value[:4096]):
        text = match[2]
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1]) if '\\"' in text or "\\\\" in text else text[1:-1]
        found.setdefault(match[1].lower(), text)
    return found
