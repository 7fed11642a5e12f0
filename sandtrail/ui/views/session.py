"""The session's page: facts, findings, the strip of turns, the navigator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sandtrail.ui.address import UNEXPLAINED, Address
from sandtrail.ui.choose import marks, several_threads
from sandtrail.ui.markup import Child, Markup, disclosure, join, link, tag
from sandtrail.ui.shapes import Gap, Session, Timeline, Turn
from sandtrail.ui.text import as_text, clock, day, duration, plain
from sandtrail.ui.views.lines import Scene, gap_line
from sandtrail.ui.views.removals import badges
from sandtrail.ui.views.turn import gist

__all__ = [
    "complete",
    "crumbs",
    "facts",
    "gaps_panel",
    "navigator",
    "short_command",
    "state",
    "strip",
]

_GAPS_SHOWN = 5
_SEES_SHOWN = 8
_NAVIGATOR_TURNS = 400
_STRIP_BINS = 240


def state(session: Session) -> Markup:
    """Returns whether it still runs, and how it ended."""
    if session["state"] == "recording":
        return tag("span", "recording", cls="pill live")
    status = session["exit_status"]
    return tag("span", "ended" if status is None else f"exit {status}", cls="pill" if not status else "pill warn")


def complete(session: Session) -> Markup:
    """Returns whether the record begins with the first instruction."""
    known = session.get("completeness")
    if not known:
        return tag("span", "completeness unknown", cls="pill gap")
    first, reason = known["from_first_instruction"], plain(known["reason"], 400)
    label = "complete from the first instruction" if first else "not complete from the first instruction"
    pills = [tag("span", label, cls="pill good" if first else "pill gap", title=reason)]
    accounted, why = known.get("egress"), plain(known.get("egress_reason", ""), 400)
    if accounted is not None:
        label = "all egress accounted for" if accounted else "egress not accounted for"
        pills.append(tag("span", label, cls="pill good" if accounted else "pill gap", title=why))
    if known.get("claims") is False:
        lacking = plain(known.get("claims_reason", ""), 400)
        pills.append(tag("span", "not all claims kept", cls="pill gap", title=lacking))
    return join(*pills)


def facts(session: Session) -> Markup:
    """Returns the header: what ran, when, how much was seen, by what, and what that is blind to."""
    started, ended = session["started_ns"], session["ended_ns"]
    took = duration(ended - started) if ended is not None and started is not None else "running"
    known = session.get("completeness")
    cells = [
        ("started", f"{day(started)} {clock(started, 0)} UTC"),
        ("took", took),
        ("turns", f"{session['turns']:,}"),
        ("events", f"{session['events']:,}"),
        ("gaps", f"{session['gaps']:,}"),
        ("sandbox", session["sandbox"]),
        ("session", session["id"]),
    ]
    grid = [
        tag("div", tag("dt", name), tag("dd", value), cls="warn" if name == "gaps" and session["gaps"] else "")
        for name, value in cells
    ]
    return tag(
        "header",
        tag("h1", " ".join(session["command"]) or "(no command)", cls="command"),
        tag(
            "div",
            state(session),
            complete(session),
            badges(session),
            tag("span", known["reason"] if known else "", cls="dim"),
            cls="badges",
        ),
        tag("dl", grid, cls="facts"),
        _sources(session.get("sources") or []),
        cls="session",
    )


def _sources(sources: Sequence[dict[str, Any]]) -> Markup | None:
    if not sources:
        return None
    heads = ("source", "sees", "is blind to", "frames", "lost", "end")
    table = tag("table", tag("tr", [tag("th", name) for name in heads]), [_source(source) for source in sources])
    names = ", ".join(plain(source.get("source", "?"), 30) for source in sources)
    return disclosure(f"{len(sources)} sources: {names} — what each sees and is blind to", table, cls="sources")


def _source(source: dict[str, Any]) -> Markup:
    version = (source.get("descriptor") or {}).get("version") or source.get("version")
    name = join(source.get("source", "?"), " ", as_text(version))
    ref, lost = source.get("ref"), source.get("dropped") or 0
    return tag(
        "tr",
        tag("th", link(Address().to_evidence(as_text(ref)), name, cls="ref") if ref else name),
        tag("td", _listed(source.get("sees"), _SEES_SHOWN)),
        tag("td", _listed(source.get("blind"), None)),
        tag("td", f"{source.get('frames', 0):,}"),
        tag("td", f"{lost:,}", cls="gap" if lost else ""),
        tag("td", as_text(source.get("reason")) or ("" if source.get("closed") else "goes on")),
    )


def _listed(value: object, most: int | None) -> Markup:
    words = [as_text(item) for item in value] if isinstance(value, list) else [as_text(value)]
    rest = words[most:] if most else []
    return join("; ".join(words[:most]), disclosure(f"and {len(rest):,} more", "; ".join(rest)) if rest else None)


def gaps_panel(gaps: Sequence[Gap], scene: Scene) -> Markup | None:
    """Returns what is known to be missing from this session."""
    if not gaps:
        return None
    rows = [gap_line(gap, scene) for gap in gaps]
    rest = (
        disclosure(f"{len(rows) - _GAPS_SHOWN:,} more gaps", tag("div", rows[_GAPS_SHOWN:], cls="lines"))
        if len(rows) > _GAPS_SHOWN
        else None
    )
    title = tag("h3", f"{len(gaps)} gap{'s' if len(gaps) > 1 else ''}: evidence that is known to be missing")
    return tag("section", title, tag("div", rows[:_GAPS_SHOWN], cls="lines"), rest, cls="gaps")


def strip(timeline: Timeline, address: Address) -> Markup:
    """Returns the scrubber: one bar a turn (or a few), tall as its events are many, red or amber as `marks` has it."""
    turns = timeline["turns"]
    step = max(1, -(-len(turns) // _STRIP_BINS))
    bins = [turns[n : n + step] for n in range(0, len(turns), step)]
    most = max((sum(t["events_total"] for t in some) for some in bins), default=1) or 1
    need = marks(timeline)
    bars = [_bar(some, most, need, address) for some in bins]
    return tag("nav", bars, cls="strip", aria_label="turns")


def _bar(some: Sequence[Turn], most: int, need: Mapping[int, str], address: Address) -> Markup:
    events = sum(turn["events_total"] for turn in some)
    mark = min((need[turn["index"]] for turn in some if turn["index"] in need), default="")  # "bad" before "gap"
    first, last = some[0]["index"], some[-1]["index"]
    label = f"turn {first}" if first == last else f"turns {first}–{last}"
    height = max(8, round(100 * (events / most) ** 0.5))
    bar = tag("span", cls="bar", style=f"height:{height}%")
    return link(address.to_turn(first), bar, cls=mark, title=f"{label}: {events:,} events")


def navigator(timeline: Timeline, turns: Sequence[Turn], address: Address, current: int | None) -> Markup:
    """Returns the list of the turns that pass the filter, each with what it is about; a long one around the current."""
    need = marks(timeline)
    middle = next((n for n, turn in enumerate(turns) if turn["index"] == current), 0)
    start = max(0, min(middle - _NAVIGATOR_TURNS // 2, len(turns) - _NAVIGATOR_TURNS))
    near = turns[start : start + _NAVIGATOR_TURNS]
    threads = several_threads(timeline["turns"])
    rows = [_entry(turn, address, need.get(turn["index"], ""), turn["index"] == current, threads) for turn in near]
    if len(near) < len(turns):
        rows.append(tag("div", f"turns {near[0]['index']}–{near[-1]['index']} of {len(turns):,}", cls="note"))
    if timeline["unexplained"]:
        odd = tag("b", "?"), tag("span", "Not explained"), tag("i", f"{len(timeline['unexplained']):,}", cls="n")
        rows.append(link(address.to_turn(UNEXPLAINED), *odd, cls="odd"))
    return tag("nav", rows, cls="navigator")


def _entry(turn: Turn, address: Address, mark: str, here: bool, threads: bool) -> Markup:
    thread = f"{turn.get('thread')} " if threads and turn["kind"] != "start" else ""
    return link(
        address.to_turn(turn["index"]),
        tag("b", turn["index"]),
        tag(
            "span", tag("i", thread, cls="thread", title=f"thread {thread}") if thread else None, plain(gist(turn), 80)
        ),
        tag("i", f"{turn['events_total']:,}", cls="n"),
        cls=f"{mark} here" if here else mark,
    )


def short_command(session: Session, limit: int) -> str:
    """Returns the command without the folders of its program, on one line of at most `limit` characters."""
    words = session["command"]
    return plain(" ".join([words[0].rpartition("/")[2], *words[1:]]) if words else "(no command)", limit)


def crumbs(address: Address, session: Session | None) -> Markup:
    """Returns where the reader is, each step a link."""
    steps: list[Child] = [link(Address().href(), "Sessions")]
    if session is not None:
        steps.append(link(Address(session=session["id"]).href(), f"session {session['id']}"))
    if address.evidence:
        steps.append(tag("span", f"evidence {plain(address.evidence, 40)}"))
    elif address.events:
        steps.append(tag("span", "single events"))
    parted: list[Child] = []
    for step in steps:
        parted += [tag("span", "›", cls="dim"), step]
    log = link(Markup("log"), "Log")
    brand = link(Address().href(), "Sandtrail", cls="brand")
    return tag("div", brand, join(parted), tag("span", cls="grow"), log, cls="crumbs")
