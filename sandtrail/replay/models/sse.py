"""Server-sent events, read to the letter of the HTML standard (section 9.2.6) but for the last one.

A reader drops an event that no blank line ended. A recorder keeps it: it is what came before the stream was cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["BEGINNINGS", "ServerEvent", "parse"]

BEGINNINGS = (b"data:", b"event:", b":", b"id:", b"retry:")
"""How a body begins that is such a stream."""
_FIELDS = ("data", "event", "id", "retry", "")
_LINE_END = re.compile("\r\n|\n|\r")


class ServerEvent(NamedTuple):
    """One event: its type, its data lines joined, and whether a blank line ended it."""

    event: str
    data: str
    ended: bool


def parse(body: bytes, stray: list[str] | None = None) -> Iterator[ServerEvent]:
    """The events of a stream's bytes, in order; lines that are none of one, as a server may write that broke, go to
    `stray`."""
    text = body.decode("utf-8-sig", "replace")
    name = ""
    data: list[str] = []
    # A line that nothing ended yet is part of the last, unfinished event.
    for line in _lines(text):
        if not line:
            if data:
                yield ServerEvent(name, "\n".join(data), True)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif stray is not None and field not in _FIELDS and not any(known.startswith(line) for known in _FIELDS):
            stray.append(line)  # and not the first letters of a field where the stream was cut
    if data:
        yield ServerEvent(name, "\n".join(data), False)


def _lines(text: str) -> Iterator[str]:
    start = 0
    for match in _LINE_END.finditer(text):
        yield text[start : match.start()]
        start = match.end()
    if start < len(text):
        yield text[start:]
