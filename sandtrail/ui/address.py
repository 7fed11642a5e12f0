"""The page's addresses: what a reader sees is named by the query string, read and written only here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from sandtrail.ui.markup import Markup, href

__all__ = ["UNEXPLAINED", "Address"]

UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Address:
    """What is shown: a session, a turn, line or piece of evidence of it, and how its timeline is narrowed."""

    session: str = ""
    evidence: str = ""
    turn: str = ""
    thread: str = ""
    at: str = ""
    whole: str = ""
    events: str = ""
    q: str = ""
    kinds: str = ""
    flagged: str = ""
    pid: str = ""
    cursor: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Address:
        """Reads a query string; names that mean nothing here are ignored."""
        return cls(**{f.name: query[f.name][:500] for f in fields(cls) if f.name in query})

    def href(self, anchor: str = "") -> Markup:
        """Returns the relative address of this."""
        return href(anchor=anchor, **{f.name: getattr(self, f.name) for f in fields(self)})

    def to_evidence(self, ref: str, session: str = "") -> Markup:
        """Returns where a frame is shown; the way back keeps the turn and the filter."""
        return replace(self, session=session or self.session, evidence=ref, at="", events="", cursor="").href()

    def to_timeline(self, at: str = "") -> Markup:
        """Returns the timeline, with the line of frame `at` marked."""
        return replace(self, evidence="", at=at, events="", cursor="", pid="").href()

    def to_turn(self, turn: int | str, whole: bool = False, first: int = 0) -> Markup:
        """Returns the timeline at one turn; `whole` shows that turn alone, from its line `first`."""
        there = replace(self, turn=str(turn), at="", evidence="", whole=str(first or 1) if whole else "", events="")
        return there.href(f"turn-{turn}")

    def to_thread(self, thread: int | str) -> Markup:
        """Returns the timeline of one conversation alone."""
        return Address(session=self.session, thread=str(thread)).href()

    def to_events(self, kinds: str = "", turn: str = "", pid: str = "") -> Markup:
        """Returns the table of single events, narrowed."""
        return Address(session=self.session, events="1", kinds=kinds, turn=turn, pid=pid).href()
