"""Where bytes of a known digest left a sandbox, or came into one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandtrail.errors import NotFoundError
from sandtrail.replay.api.query import find_events
from sandtrail.replay.timeline import Timelines
from sandtrail.replay.turns.buckets import MOST_N
from sandtrail.replay.turns.carried import kept_back

__all__ = ["Sighting", "member_of", "sightings"]

PAGE = 5000
MAX_ROWS = 100_000


@dataclass(slots=True)
class Sighting:
    """One place where the bytes were seen."""

    session: str
    ref: str
    time_ns: int
    kind: str
    object: str
    way: str
    """`left`, `refused` (the gateway kept it back), `arrived`, `ran` (a program), or `seen`."""
    how: str
    """`body`, `decoded body`, `part`, `base64`, `query`, `message`, `program`."""
    name: str = ""
    bytes: int | None = None
    cut: bool = False
    turn: int | None = None
    process: str = ""
    pid: int = 0
    row: dict[str, Any] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """As data, for programs."""
        names = ("session", "turn", "ref", "time_ns", "kind", "object", "way", "how", "name", "bytes", "cut")
        return {name: getattr(self, name) for name in (*names, "process", "pid")}


def sightings(timelines: Timelines, sha256: str, session: str = "") -> list[Sighting]:
    """Every sighting of a digest (64 hex digits), in order of time. Raises UsageError, and NotFoundError for a session
    that is not there."""
    if session:
        timelines.index.session(session)
    found: dict[tuple[str, ...], Sighting] = {}
    after = None
    while True:
        rows, after = find_events(timelines.index, session or None, sha256=sha256, after=after, limit=PAGE)
        for row in rows:
            for seen in _read(row, sha256):
                # A request is told when it is there and again when its exchange has ended: the later knows more.
                found[_key(row, seen)] = seen
        if after is None:
            break
    told = sorted(found.values(), key=lambda seen: (seen.time_ns, seen.ref))
    for name in dict.fromkeys(seen.session for seen in told):
        _place(timelines, name, [seen for seen in told if seen.session == name])
    return told


def _key(row: Mapping[str, Any], seen: Sighting) -> tuple[str, ...]:
    detail = _detail(row)
    of = f"{detail.get('flow')}/{detail.get('id')}" if row["kind"] in ("http.request", "http.exchange") else row["ref"]
    way = "left" if seen.way == "refused" else seen.way  # what was asked for, the request says, and how it ended
    return seen.session, of, way, seen.how, seen.name


def _detail(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(row["detail"])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(row: dict[str, Any], sha256: str) -> Iterator[Sighting]:
    def seen(way: str, how: str, what: Mapping[str, Any], name: str = "") -> Sighting:
        size, named = what.get("bytes"), [str(what[key]) for key in ("name", "file") if what.get(key)]
        return Sighting(
            row["session"],
            str(what.get("ref") or row["ref"]),
            row["time_ns"],
            row["kind"],
            row["object"],
            way,
            how,
            name or ", ".join(named),
            size if isinstance(size, int) else None,
            bool(what.get("cut")),
            row=row,
        )

    detail = _detail(row)
    if row["kind"] == "process.exec":
        yield seen("ran", "program", detail)
    elif row["kind"] == "http.websocket":
        yield seen("left" if detail.get("from") == "client" else "arrived", "message", detail)
    elif row["kind"] in ("http.request", "http.exchange"):
        for side, way in (("request", "refused" if kept_back(detail) else "left"), ("response", "arrived")):
            what = detail.get(side)
            if not isinstance(what, dict):
                continue
            if what.get("sha256") == sha256:
                yield seen(way, "body", what)
            parts = what.get("parts")
            for part in parts if isinstance(parts, list) else []:
                if isinstance(part, dict) and part.get("sha256") == sha256:
                    how = str(part.get("as") or "part")
                    yield seen(way, "decoded body" if how == "decoded" else how, {"ref": what.get("ref"), **part})
    else:
        yield seen("seen", row["kind"], detail)


def _place(timelines: Timelines, session: str, told: list[Sighting]) -> None:
    """Say in which turn each stands, and which process it was."""
    wanted = {member_of(seen.row): seen for seen in told}
    try:
        turns = timelines.turns_of(session, set(wanted))
        for turn in {turns[member_of(seen.row)] for seen in told}:
            rows, _ = timelines.outputs(session, turn, 0, MAX_ROWS)
            by_ref = {ref: row for row in rows for ref in (row["ref"], *row["refs"])}
            for seen in told:
                if turns[member_of(seen.row)] != turn:
                    continue
                seen.turn = turn
                row = by_ref.get(seen.row["ref"]) or by_ref.get(seen.ref)
                if row is not None:
                    seen.process, seen.pid = row["process"], row["pid"]
    except NotFoundError:  # erased while we looked
        return


def member_of(row: Mapping[str, Any]) -> tuple[int, int, int]:
    """The event of a row as `Members` has it."""
    segment, _, place = str(row["ref"]).partition(".")
    return int(segment), int(place), min(int(row["n"]), MOST_N)
