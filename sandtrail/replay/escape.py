"""What a sandbox wrote, made safe to show: in a terminal, and in a spreadsheet.

Every string of a sandbox is hostile: it may move the cursor, turn the direction of the text around, begin a new line
that looks like ours, or be a formula.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["csv_cell", "csv_text", "visible"]

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Control, format (bidirectional overrides, zero-width), surrogate, private, unassigned; line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FORMULA = frozenset("=+-@\t\r\n|%＝＋－＠")
MAX_MARKS = 4


def visible(text: str) -> str:
    """The text on one line, with everything that does not show, or that moves what shows, as a visible escape.

    Marks that combine with the character before are kept up to a few: more would grow over the lines around.
    """
    if text.isascii() and text.isprintable():
        return text
    out: list[str] = []
    marks = 0
    for char in text:
        kind = unicodedata.category(char)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if kind in _HIDDEN or marks > MAX_MARKS:
            out.append(_SHORT.get(char) or _escape(ord(char)))
        else:
            out.append(char)
    return "".join(out)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def csv_cell(value: Any) -> str:
    """A value as a cell that no spreadsheet takes for a formula: text that could be one begins with an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return str(value)
    text = visible(str(value))
    first = str(value).lstrip(" '\"")[:1]
    return f"'{text}" if str(value)[:1] in _FORMULA or first in _FORMULA else text


def csv_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, header: bool = True) -> str:
    """Rows as CSV (RFC 4180), by default with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    if header:
        writer.writerow(columns)
    for row in rows:
        writer.writerow([csv_cell(row.get(column)) for column in columns])
    return out.getvalue()
