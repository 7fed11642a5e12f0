"""Events in the order in which the fold wants them: by the time of what they tell, exchanges as question and answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sandtrail.replay.events import Event
from sandtrail.replay.turns.facts import details

__all__ = ["Entry", "entries"]

LEAD_NS = 20_000_000
"""An answer is taken to have come this much earlier: what follows from it is timed by another clock."""


class Entry(NamedTuple):
    """One step of the fold."""

    at_ns: int
    order: int
    event: Event
    phase: str
    """`ask` or `answer` for the two steps of an exchange, empty for everything else."""


def entries(events: Iterable[Event]) -> list[Entry]:
    """Events -> steps in order. A time that lies after its receipt is a clock gone wrong: the receipt's is taken."""
    out: list[Entry] = []
    for order, event in enumerate(events):
        if event.kind != "http.exchange":
            out.append(Entry(min(event.time_ns, event.received_ns or event.time_ns), order, event, ""))
            continue
        detail = details(event)
        start, first = detail.get("start_ns"), detail.get("first_ns") or detail.get("end_ns")
        asked = start if isinstance(start, int) and start else event.time_ns
        out.append(Entry(asked, order, event, "ask"))
        if isinstance(first, int) and first:
            out.append(Entry(max(asked, first - LEAD_NS), order, event, "answer"))
    out.sort(key=lambda entry: entry[:2])
    return out
