"""Events in the order in which the fold wants them: by the time of what they tell, exchanges as question and answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple

from sandtrail.replay.events import Event
from sandtrail.replay.turns.facts import details, whole

__all__ = ["ORDER", "Entry", "entries"]

ORDER = itemgetter(0, 1)
LEAD_NS = 20_000_000
"""An answer is taken to have come this much earlier: what follows from it is timed by another clock."""


class Entry(NamedTuple):
    """One step of the fold. Entries sort by time, then by where their evidence lies."""

    at_ns: int
    place: tuple[int, int, int, int]
    """Segment, frame, event of the frame, step: the same whenever and in whatever company the event comes."""
    event: Event
    phase: str
    """`ask`, `answer` and `told`, the steps of an exchange; empty for everything else."""


def entries(events: Iterable[Event]) -> list[Entry]:
    """Events -> steps in order. A time that lies after its receipt is a clock gone wrong: the receipt's is taken."""
    out: list[Entry] = []
    for event in events:
        segment, _, frame = event.ref.partition(".")
        at, first, second = min(event.time_ns, event.received_ns or event.time_ns), int(segment), int(frame)
        if event.kind == "http.exchange":
            for step, (when, phase) in enumerate(_steps(event, at)):
                out.append(Entry(when, (first, second, event.n, step), event, phase))
        else:
            phase = "ask" if event.kind == "http.request" else ""
            out.append(Entry(at, (first, second, event.n, 0), event, phase))
    out.sort(key=ORDER)
    return out


def _steps(event: Event, at_ns: int) -> Iterator[tuple[int, str]]:
    detail = details(event)
    asked = whole(detail.get("start_ns")) or at_ns
    first = whole(detail.get("first_ns"))
    if first:
        yield max(asked, first - LEAD_NS), "answer"
    yield max(whole(detail.get("end_ns")), first, asked), "told"
