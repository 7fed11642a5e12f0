"""Lines for a terminal: cropped, wrapped and ruled by the cells that they take, each with its evidence at the end."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from sandtrail.replay.escape import visible

__all__ = ["REF", "cited", "clock", "crop", "many", "rule", "with_ref", "wrap"]

REF = 12
"""Cells that a reference may take."""


def many(count: int, one: str, more: str) -> str:
    """A count with its noun."""
    return f"{count:,} {one if count == 1 else more}"


def cited(text: str, ref: str, width: int, style: str) -> Text:
    """A line of text, and at its end the reference of its evidence."""
    return with_ref(Text(crop(text, width - REF - 1), style), ref, width)


def with_ref(line: Text, ref: str, width: int) -> Text:
    """The same for a line that is styled already."""
    gap = max(1, width - cell_len(line.plain) - len(ref))
    return line.append(" " * gap).append(visible(ref), "cyan")


def rule(text: str, width: int) -> str:
    """A heading across the terminal."""
    return f"── {crop(text, width - 6)} ".ljust(width, "─")


def crop(text: str, width: int) -> str:
    """The beginning that fits into so many cells."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 1, 0)).rstrip() + "…"


def wrap(text: str, width: int) -> list[str]:
    """Lines of so many cells, broken at spaces where that goes."""
    lines, line = [], ""
    for word in text.split(" "):
        while cell_len(word) > width:
            lines.append(line) if line else None
            head = set_cell_size(word, width).rstrip()
            lines.append(head)
            line, word = "", word[len(head) :]
        if line and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def clock(ns: int | None) -> str:
    """A moment as people write it; nothing where there is none."""
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if ns else ""
