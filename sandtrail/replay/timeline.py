"""Timelines of sessions, and what is told of a session as a whole; each is kept up to date as the index grows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandtrail.errors import NotFoundError, StoreError
from sandtrail.replay.follow import catch_up
from sandtrail.replay.index import Index
from sandtrail.replay.index.index import MAX_LIMIT
from sandtrail.replay.live import Live
from sandtrail.replay.summaries import Summaries, state
from sandtrail.replay.turns.exchanges import Frames, StoredFrames
from sandtrail.replay.turns.fold import Fold
from sandtrail.store.reader import LogReader, open_log

__all__ = ["Timelines", "read_events", "read_timeline"]

KEPT = 8
"""Sessions whose folds stay in memory."""


class _Nothing:
    """Frames of a home that has no log yet."""

    def frame(self, ref: str) -> bytes:
        raise NotFoundError(f"there is no frame {ref}: nothing has been signed yet")

    def between(self, first: str, last: str) -> Iterator[tuple[str, bytes]]:
        raise NotFoundError(f"there are no frames {first} to {last}: nothing has been signed yet")


class Timelines:
    """Timelines of one home, for many askers at once."""

    def __init__(self, home: Path, index: Index | None = None) -> None:
        self.home = home
        self.index = index or Index(home)
        self._live: OrderedDict[str, tuple[threading.Lock, Live]] = OrderedDict()
        self._lock = threading.Lock()
        self._kept = Summaries(self.home)
        self._summaries: dict[str, dict[str, Any]] = {}

    def reader(self) -> LogReader:
        """A reader of the log. Raises NotFoundError where there is none yet."""
        return open_log(self.home)

    def _of(self, session: str) -> tuple[threading.Lock, Live]:
        with self._lock:
            found = self._live.get(session)
            if found is None:
                frames: Frames
                try:
                    frames = StoredFrames(self.reader())
                except StoreError:  # an index without a log: events can be shown, bodies cannot
                    frames = _Nothing()
                found = self._live[session] = (threading.Lock(), Live(frames))
            self._live.move_to_end(session)
            while len(self._live) > KEPT:
                self._live.popitem(last=False)
            return found

    @contextmanager
    def _told(self, row: dict[str, Any], turn: int | None = None) -> Iterator[Live]:
        """A session's timeline as of now, for one asker at a time. Raises NotFoundError where it has no such turn."""
        lock, live = self._of(row["id"])
        with lock:
            live.update(self.index, row)
            if turn is not None and not 0 <= turn < len(live.fold.turns):
                raise NotFoundError(f"session {row['id']} has turns 0 to {len(live.fold.turns) - 1}")
            yield live

    def session(self, session: str) -> dict[str, Any]:
        """A session with everything that is known of it as a whole; "" is the newest. Raises NotFoundError."""
        row = self.index.session(session)
        known = completeness(row)
        found = {**public(row), **self.summary(row)}
        found.pop("found", None)
        found["sources"] = [source(stream) for stream in self.index.streams(row["id"])]
        found["removed"] = row["facts"].get("removed")
        found["held"] = sorted({key["held"] for key in self.index.keys(row["id"]) if key["held"]})
        found["completeness"] = {"from_first_instruction": known[0], "reason": known[1], **egress(row)}
        return found

    def timeline(self, session: str, offset: int = 0, limit: int = 100_000) -> dict[str, Any]:
        """A session's timeline (docs/architecture.md). Raises NotFoundError."""
        row = self.index.session(session)
        with self._told(row) as live:
            known = unbroken(row, live.fold)
            found = live.view.as_dict({}, *known, offset, limit)
        found["session"] = {
            **self.session(row["id"]),
            "turns": found["turns_total"],
            "findings": len(found["findings"]),
        }
        return found

    def outputs(self, session: str, turn: int | None, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Rows of one turn (None: of what is unexplained) and how many there are. Raises NotFoundError."""
        row = self.index.session(session)
        with self._told(row, turn) as live:
            rows = live.view.outputs(turn)
            return rows[offset : offset + limit], len(rows)

    def members(self, session: str, turn: int | None) -> list[tuple[int, int, int]]:
        """Which events stand in a turn: (segment, place, event of the frame). Raises NotFoundError."""
        row = self.index.session(session)
        with self._told(row, turn) as live:
            held = live.fold.unexplained if turn is None else live.fold.turns[turn].buckets
            return [member for bucket in held.values() for member in bucket.members()]

    def turns_of(self, session: str, members: set[tuple[int, int, int]]) -> dict[tuple[int, int, int], int | None]:
        """In which turn each of these events stands, None for what no turn explains. Raises NotFoundError."""
        row = self.index.session(session)
        with self._told(row) as live:
            held = [(turn.index, bucket) for turn in live.fold.turns for bucket in turn.buckets.values()]
            found: dict[tuple[int, int, int], int | None] = {
                member: index for index, bucket in held for member in bucket.members() if member in members
            }
        return found | dict.fromkeys(members - found.keys())

    def summary(self, row: dict[str, Any]) -> dict[str, Any]:
        """`turns`, `findings` (a count) and `found` (the findings) of a session, kept for sessions that have ended."""
        kept = self._summaries.get(row["id"]) or self._kept.read(row["id"])
        if kept is None or kept["state"] != state(row):
            with self._told(row) as live:
                found = [finding.as_dict() for finding in live.view.findings(*unbroken(row, live.fold))]
                kept = {"state": state(row), "turns": len(live.fold.turns), "found": found}
            if row["state"] == "ended":
                self._kept.write(row, kept, lambda: self.index.session(row["id"]))
        self._summaries[row["id"]] = kept
        grave = sum(finding["severity"] == "high" for finding in kept["found"])
        return {"turns": kept["turns"], "findings": len(kept["found"]), "grave": grave, "found": kept["found"]}

    def summaries(self, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Sessions with their summaries, but for those that are erased while we look."""
        for row in rows:
            try:
                yield row, self.summary(row)
            except StoreError:
                if self.index.has(row["id"]):
                    raise

    def summarise(self, most: int = 200) -> int:
        """Have summaries of the newest sessions ready before anybody asks; returns how many had to be made."""
        made = 0
        with self._lock:
            for name in [name for name in {*self._live, *self._summaries} if not self.index.has(name)]:
                self._live.pop(name, None)
                self._summaries.pop(name, None)
        ended = [
            row for row in self.index.sessions(most) if row["state"] == "ended" and row["id"] not in self._summaries
        ]
        missing = {row["id"] for row in ended if self._kept.read(row["id"]) is None}
        for row, _ in self.summaries(ended):
            made += row["id"] in missing
        return made


def public(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of a session that askers see."""
    names = ("id", "sandbox", "command", "state", "started_ns", "ended_ns", "exit_status", "events", "gaps")
    return {name: row[name] for name in names}


def source(stream: dict[str, Any]) -> dict[str, Any]:
    """What a stream's source says of itself."""
    told = stream["descriptor"] if isinstance(stream["descriptor"], dict) else {}
    names = ("frames", "dropped", "closed", "reason")
    return {
        "stream": stream["id"],
        "source": stream["source"],
        "ref": stream["opened_ref"],
        "sees": [str(item) for item in told.get("sees") or [] if item],
        "blind": [str(item) for item in told.get("blind") or [] if item],
        "descriptor": told,
        **{name: stream[name] for name in names},
    }


def completeness(row: dict[str, Any]) -> tuple[bool, str]:
    """Whether a session was recorded from its first instruction on, and why that is known."""
    facts = row["facts"] if isinstance(row["facts"], dict) else {}
    known = facts.get("completeness")
    if isinstance(known, dict):
        return known.get("from_first_instruction") is True, str(known.get("reason") or "")
    return False, "nothing in the record proves that it begins with the first instruction"


def egress(row: dict[str, Any]) -> dict[str, Any]:
    """Whether everything that left the sandbox's link is accounted for, None where that is not known, and why; and the
    same of the telemetry that the agent sent us of itself."""
    known = row["facts"].get("completeness") if isinstance(row["facts"], dict) else None
    told = known if isinstance(known, dict) else {}
    reason = str(told.get("egress_reason") or "the link's last account is not on record")
    claims = {"claims": told.get("claims"), "claims_reason": str(told.get("claims_reason") or "")}
    return {"egress": told.get("egress"), "egress_reason": reason, **claims}


def unbroken(row: dict[str, Any], fold: Fold) -> tuple[bool, str]:
    """Whether no process can have run unseen: recorded from the first instruction, and nothing lost since."""
    first, reason = completeness(row)
    lost = [fold.gap_of(fact) for fact, _ in fold.gaps if fact.source in ("gvisor", "collector", "")]
    if first and lost:
        return False, f"{len(lost)} gaps, the first: {lost[0]['cause']}"
    return first, reason


def read_timeline(home: Path, session: str = "") -> dict[str, Any]:
    """The timeline of one session, the newest by default, with the index brought up to the log's signed head.

    Raises NotFoundError where nothing was recorded, StoreError where the index cannot be written and is not there.
    """
    return Timelines(home, catch_up(home)).timeline(session)


def read_events(home: Path, session: str = "") -> Iterator[dict[str, Any]]:
    """Every event of one session, the newest by default, in order of time; the index as in `read_timeline`.

    Raises as `read_timeline`, before the first one.
    """
    index = catch_up(home)
    return _events(index, index.session(session)["id"])


def _events(index: Index, session: str) -> Iterator[dict[str, Any]]:
    after: str | None = None
    while True:
        rows, after = index.events(session, after=after, limit=MAX_LIMIT)
        yield from rows
        if after is None:
            return
