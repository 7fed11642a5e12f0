"""The list of sessions."""

from __future__ import annotations

from collections.abc import Sequence

from sandtrail.ui.address import Address
from sandtrail.ui.markup import Markup, link, tag
from sandtrail.ui.shapes import Health, Session
from sandtrail.ui.text import clock, day, duration
from sandtrail.ui.views.session import complete, short_command, state

__all__ = ["behind", "empty", "table"]

_FAR_BEHIND = 10
"""Entries; a few are always under way while something is recorded."""
_COLUMNS = ("", "command", "started (UTC)", "took", "turns", "events", "findings", "gaps", "record")
_COMMAND_CHARS = 160


def table(sessions: Sequence[Session], now_ns: int) -> Markup:
    """Returns one row a session, each a link to it; what needs a person stands out."""
    head = tag("div", [tag("span", name, cls=_cell(name)) for name in _COLUMNS], cls="head")
    return tag("div", head, [_row(session, now_ns) for session in sessions], cls="sessions")


def _cell(name: str) -> str:
    return "n" if name in {"took", "turns", "events", "findings", "gaps"} else ""


def _row(session: Session, now_ns: int) -> Markup:
    started = session["started_ns"]
    ended = session["ended_ns"] if session["state"] == "ended" else now_ns
    took = ended - started if started is not None and ended is not None else None
    return link(
        Address(session=session["id"]).href(),
        tag("span", state(session)),
        tag("span", tag("b", short_command(session, _COMMAND_CHARS)), tag("i", session["id"]), cls="command"),
        tag("span", day(started), " ", tag("b", clock(started, 0))),
        tag("span", duration(took), cls="n"),
        tag("span", f"{session['turns']:,}", cls="n"),
        tag("span", f"{session['events']:,}", cls="n"),
        _count(session["findings"], "pill bad" if session.get("grave", 1) else "pill warn"),
        _count(session["gaps"], "pill gap"),
        tag("span", complete(session)),
        cls="live" if session["state"] == "recording" else "",
    )


def _count(number: int, pill: str) -> Markup:
    return tag("span", tag("span", f"{number:,}", cls=pill) if number else tag("span", "0", cls="dim"), cls="n")


def behind(health: Health) -> Markup | None:
    """Returns how far the index is, where it is not where the log is: what is recorded may not be shown yet."""
    missing = health["log_entries"] - health["indexed_entries"]
    if missing < _FAR_BEHIND:
        return None
    read, total = health["indexed_entries"], health["log_entries"]
    said = f"The index is being made: {read:,} of {total:,} entries of the log are read."
    return tag("section", tag("h3", said), tag("p", "What is not read yet is missing here until then."), cls="trouble")


def empty(api_url: str) -> Markup:
    """Returns what to do when nothing was recorded yet."""
    return tag(
        "div",
        tag("h3", "Nothing has been recorded yet"),
        tag("p", "Record a command in a fresh sandbox; it shows up here while it runs:"),
        tag("pre", "sandtrail record -- COMMAND", cls="command"),
        tag("p", f"This page reads {api_url}.", cls="dim"),
        cls="empty",
    )
