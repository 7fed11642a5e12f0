"""The few shapes of rows that do not come of one message's own words."""

from __future__ import annotations

from typing import Any, Final

from sandtrail.replay.decode.text import to_json

__all__ = ["Head", "Row", "gap_row", "unknown_row"]

Row = tuple[Any, ...]
Head = list[Any]
"""The first columns of a row: up to `seq`, or, once it is known who acts, up to `gid`."""
_NOBODY: Final = ("", 0, 0, 0, 0, "", "", "", None, None)
_TO_SEQ: Final = 8
_TO_GID: Final = 18


def gap_row(head: Head, cause: str, stream: str, detail: dict[str, Any], n: int) -> Row:
    """Evidence is known to be missing."""
    who = head[_TO_SEQ:_TO_GID] if len(head) >= _TO_GID else _NOBODY
    told = {"cause": cause, "count": None, "from_ns": head[5], "to_ns": None, **detail}
    told |= {"stream": stream, "source": "gvisor"}
    return (*head[:4], "gap", *head[5:_TO_SEQ], *who, cause, told["count"], None, to_json(told), n)


def unknown_row(head: Head, kind: int, reason: str, data: bytes, n: int) -> Row:
    """A packet, or a part of one, that was not understood."""
    detail = to_json({"type": kind, "reason": reason, "bytes": len(data), "head": data[:64].hex()})
    return (*head[:4], "unknown", *head[5:_TO_SEQ], *_NOBODY, reason, None, None, detail, n)
