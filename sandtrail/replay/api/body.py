"""The body that a gateway's frame carries, for a reader: its content coding undone, as text where it is text."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

from sandtrail.replay.decode.text import as_text
from sandtrail.replay.models.body import content_type, decode_body

__all__ = ["Body", "body_of"]

MAX_SHOWN = 256 * 1024
"""So many bytes of it are in the answer on a frame; all of it is an answer of its own."""
MAX_HEADERS = 500


@dataclass(slots=True)
class Body:
    """Bytes without their content coding, at most `models.body.MAX_BODY` of them."""

    data: bytes
    media: str = ""
    recorded: int = 0
    """How many bytes were recorded of it, coded as they came."""
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For the answer on a frame."""
        shown = {"bytes": len(self.data), "recorded": self.recorded, "media": self.media, "problems": self.problems}
        return {**shown, "text": _text(self.data[:MAX_SHOWN]), "truncated": len(self.data) > MAX_SHOWN}


def body_of(payload: bytes) -> Body | None:
    """The body in a frame of the gateway or of the claims receiver; None where it holds none. Never raises."""
    try:
        frame = json.loads(payload)
        coded = (frame.get("body") or frame.get("data")) if isinstance(frame, dict) else None
        data = b64decode(coded, validate=True) if isinstance(coded, str) else b""
    except (ValueError, RecursionError):
        return None
    if not data:
        return None
    given = frame.get("headers")
    headers = [
        (as_text(pair[0], 200), as_text(pair[1], 4096))
        for pair in (given[:MAX_HEADERS] if isinstance(given, list) else [])
        if isinstance(pair, list) and len(pair) == 2
    ]
    plain, problems = (data, []) if frame.get("decoded") else decode_body(data, headers)
    return Body(plain, content_type(headers)[:200], len(data), problems[:10])


def _text(data: bytes) -> str | None:
    """UTF-8 text, a character at the end that was cut in half left out; None where it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return data[: error.start].decode() if error.start and len(data) - error.start < 4 else None
