"""What was erased or removed: that, when, why, and what still holds. Never of whom: nobody knows that any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandtrail.ui.markup import Markup, block, disclosure, join, tag
from sandtrail.ui.shapes import Removal, Session
from sandtrail.ui.text import as_text, clock, day, plain, size

__all__ = ["badges", "gone_panel", "removals_panel"]

_SHOWN = 5


def removals_panel(removals: Sequence[Removal]) -> Markup | None:
    """Returns the lines that stand where sessions were."""
    if not removals:
        return None
    lines = [_line(removal) for removal in removals]
    rest = disclosure(f"{len(lines) - _SHOWN:,} more", tag("div", lines[_SHOWN:])) if len(lines) > _SHOWN else None
    return tag("section", tag("h3", "Erased or removed"), lines[:_SHOWN], rest, cls="removals")


def _line(removal: Removal) -> Markup:
    what = "A session was erased" if removal["kind"] == "erase" else "Old evidence was removed"
    much = f"{removal['frames']:,} frames in {removal['segments']:,} segments"
    return tag(
        "p",
        tag("b", f"{what} on {_moment(removal['at_ns'])}"),
        f" by {plain(removal['by'], 80)}: {plain(removal['reason'], 400)}. ",
        tag("span", f"{much}, received {_span(removal)}; log entry {removal['log_index']:,}", cls="dim"),
    )


def _moment(ns: int | None) -> str:
    return f"{day(ns)} {clock(ns, 0)} UTC"


def _span(removal: Removal) -> str:
    first, last = removal["from_ns"], removal["to_ns"]
    return f"{_moment(first)} to {_moment(last)}" if first is not None else "at an unknown time"


def badges(session: Session) -> Markup | None:
    """Returns what is to be said of a session's custody: a hold, and what was removed of it."""
    held, removed = session.get("held") or [], session.get("removed")
    marks = [tag("span", f"held for {plain(case, 60)}", cls="pill warn", title="it can't be erased") for case in held]
    if removed:
        said = f"{removed['frames']:,} frames removed after their time"
        marks.append(tag("span", said, cls="pill gap", title=f"log entry {removed['log_index']}"))
    return join(*marks) if marks else None


def gone_panel(problem: Mapping[str, Any]) -> Markup:
    """Returns what the API's problem document says of a frame that nobody can read any more."""
    act, digests = problem.get("removal") or {}, problem.get("digests") or {}
    place, proof = problem.get("position") or {}, problem.get("proof") or {}
    erased = act.get("kind") == "erase"
    said = (
        "The key under which this frame was stored has been destroyed. The stored bytes are noise to everybody."
        if erased
        else "The segment with this frame was removed when its time was over."
    )
    kept = "still there, and as signed" if digests.get("kept") else "not there any more"
    rows = [
        ("frame", problem.get("ref")),
        ("done on", _moment(act.get("at_ns"))),
        ("by", act.get("by")),
        ("reason", act.get("reason")),
        ("signed in", f"log entry {act.get('log_index')}"),
        ("place", f"log entry {place.get('log_index')} of {place.get('log_size')}, {place.get('origin')}"),
        ("stored bytes", f"{size(int(digests.get('size') or 0))}, {kept}"),
        ("their SHA-256", digests.get("blob")),
        ("segment's root", digests.get("inner_root")),
        ("log's root", proof.get("root")),
    ]
    facts = tag("table", [tag("tr", tag("th", name), tag("td", as_text(value))) for name, value in rows], cls="facts")
    after = "A proof of this frame that was handed out before still leads to the segment's root below."
    return join(
        tag("section", tag("h3", "Erased" if erased else "Removed"), tag("p", said), tag("p", after), cls="trouble"),
        tag("section", tag("h3", "What still holds"), facts),
        tag("section", tag("h3", "Signed checkpoint"), block(proof.get("checkpoint"), "say")),
    )
