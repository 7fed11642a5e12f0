"""The table of single events: what a folded group holds, and what a search finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandtrail.ui.address import Address
from sandtrail.ui.choose import category
from sandtrail.ui.markup import Markup, join, link, tag
from sandtrail.ui.text import as_text, clock, spreadsheet_cell
from sandtrail.ui.views.lines import error_name, plain_or

__all__ = ["COLUMNS", "events_table", "spreadsheet"]

COLUMNS = ("ref", "time_ns", "source", "kind", "pid", "process", "object", "result", "errno", "detail")


def events_table(rows: Sequence[Mapping[str, Any]], address: Address, cursor: str | None) -> Markup:
    """Returns one line an event, each a link to its evidence, and the way to the next ones."""
    asked = [
        f"{name} {value}" for name, value in vars(address).items() if value and name in {"kinds", "turn", "pid", "q"}
    ]
    back = link(address.to_timeline(), "‹ back to the timeline", cls="ref")
    head = tag("div", back, tag("b", "Single events"), tag("span", " · ".join(asked), cls="dim"), cls="way")
    lines = [_line(row, address) for row in rows]
    after = link(Address.of({**vars(address), "cursor": cursor}).href(), "next ›", cls="ref") if cursor else None
    nothing = tag("div", "no event matches", cls="note") if not rows else None
    return join(head, tag("section", tag("div", lines, cls="lines single"), nothing, after, cls="turn"))


def _line(row: Mapping[str, Any], address: Address) -> Markup:
    kind = as_text(row.get("kind"))
    time = row.get("time_ns")
    said = plain_or(as_text(row.get("object")), as_text(row.get("detail")))
    cells = (
        tag("span", clock(time, 6) if isinstance(time, int) else "–", cls="t"),
        tag("span", kind, cls=f"act {category(kind)}"),
        tag("span", tag("em", as_text(row.get("process"))[:40], " "), said, cls="what"),
        tag("span", error_name(row.get("errno")), cls="end"),
        tag("span", as_text(row.get("pid")), cls="pid"),
        tag("span", as_text(row.get("ref")), cls="why"),
    )
    return tag("div", link(address.to_evidence(as_text(row.get("ref"))), *cells, cls="line"), cls="row")


def spreadsheet(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as CSV in which no cell is a formula and every cell is quoted."""
    lines = [",".join(f'"{name}"' for name in COLUMNS)]
    for row in rows:
        cells = (spreadsheet_cell(row.get(name)).replace('"', '""') for name in COLUMNS)
        lines.append(",".join(f'"{cell}"' for cell in cells))
    return "\r\n".join(lines) + "\r\n"
