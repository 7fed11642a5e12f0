"""What a message holds that is no text, named for people: images, sounds and files, whatever API carries them."""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import unquote_to_bytes

from sandtrail.replay.models.call import scrub

__all__ = ["MAX_INLINE", "media_words", "readable"]

MAX_INLINE = 16 << 20
"""Characters of inline content that are decoded; of a longer one only its length is told."""
MAX_WORD = 200
_DEPTH = 4
_KINDS = {"image_url": "image", "input_image": "image", "input_audio": "audio", "input_file": "file"}
_AROUND = (
    *("image_url", "input_audio", "file", "source", "inlineData", "inline_data", "fileData", "file_data"),
    *("image", "document", "video", "audio", "s3Location", "resource"),
)
"""Objects in a part that say what it holds."""
_MEDIA = ("media_type", "mimeType", "mime_type", "format")
_NAMES = ("filename", "title", "name", "displayName", "display_name")
_INLINE = ("data", "bytes", "blob", "file_data", "url", "image_url", "file_url")
_PLACES = ("url", "image_url", "file_url", "fileUri", "file_uri", "uri", "file_id")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*")
_STANDARD = bytes.maketrans(b"-_", b"+/")


def media_words(part: Mapping[str, Any], kind: str = "") -> str:
    """`[image image/png, 60 kB, sha256 ab12…]`: what is known of a part, in brackets. Never raises.

    Of inline content its size and digest as it was recorded, else the URL or the id of the file that it names. `kind`
    is what the API calls the part; without one the media type says what it is.
    """
    said: dict[str, str] = {}
    _gather(part, said, _DEPTH)
    media = next((said[key] for key in _MEDIA if key in said), "")
    inline = next((said[key] for key in _INLINE if _is_inline(key, said.get(key, ""))), "")
    if inline.startswith("data:"):
        media = media or inline[5:MAX_WORD].partition(",")[0].partition(";")[0]
    held = _content(inline) if inline else ""
    place = next((said[key] for key in _PLACES if key in said and said[key] != inline), "")
    major = media.partition("/")[0]
    kind = _KINDS.get(kind, kind) or (major if major in ("image", "audio", "video") else "file")
    name = next((said[key] for key in _NAMES if key in said), "")
    first = " ".join(filter(None, (_word(kind), _word(name) or _word(media))))
    return f"[{', '.join(filter(None, (first, _word(media) if name else '', held, _word(place))))}]"


def readable(size: int) -> str:
    """Bytes for people: 12 B, 3.4 kB, 12 kB, 1.2 MB."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            return f"{value:.0f} {unit}" if value >= 9.95 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return ""


def _gather(part: Mapping[str, Any], said: dict[str, str], depth: int) -> None:
    for key in (*_MEDIA, *_NAMES, *_INLINE, *_PLACES):
        if isinstance(value := part.get(key), str) and value:
            said.setdefault(key, value)
    for key in _AROUND if depth else ():
        if isinstance(inner := part.get(key), Mapping):
            _gather(inner, said, depth - 1)


def _is_inline(key: str, value: str) -> bool:
    return value.startswith("data:") or (bool(value) and key not in _PLACES)


def _word(text: str) -> str:
    """One that fits into the brackets."""
    short = text if len(text) <= MAX_WORD else f"{text[:MAX_WORD]}…"
    return " ".join(scrub(short).replace("[", "(").replace("]", ")").split())


def _content(inline: str) -> str:
    """Size and digest of what base64 or a data URL holds, as far as it can be decoded."""
    if len(inline) > MAX_INLINE:
        return f"{len(inline):,} characters, too long to be decoded here"
    head, _, rest = inline.partition(",") if inline.startswith("data:") else (";base64", "", inline)
    if not head[-20:].lower().endswith(";base64"):
        data, broken = unquote_to_bytes(scrub(rest)), False
    else:
        text = rest.encode("ascii", "replace").translate(_STANDARD, b" \r\n\t")
        found = _BASE64.match(text)
        plain = found[0] if found is not None else b""
        broken = bool(text[len(plain) :].rstrip(b"=")) or len(plain) % 4 == 1
        plain = plain[: len(plain) - (len(plain) % 4 == 1)]
        data = a2b_base64(plain + b"=" * (-len(plain) % 4))
    after = ", of base64 that breaks off there" if broken else ""
    return f"{readable(len(data))}, sha256 {sha256(data).hexdigest()[:16]}…{after}"
