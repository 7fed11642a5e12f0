"""Events in the order in which the fold wants them: by the time of what they tell, exchanges as question and answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sandtrail.replay.events import Event
from sandtrail.replay.turns.facts import details, whole

__all__ = ["Entry", "entries"]

LEAD_NS = 20_000_000
"""An answer is taken to have come this much earlier: what follows from it is timed by another clock."""


class Entry(NamedTuple):
    """One step of the fold."""

    at_ns: int
    order: int
    event: Event
    phase: str
    """`ask`, `answer` and `told` for the steps of an exchange, empty for everything else."""


def entries(events: Iterable[Event]) -> list[Entry]:
    """Events -> steps in order. A time that lies after its receipt is a clock gone wrong: the receipt's is taken."""
    out: list[Entry] = []
    for order, event in enumerate(events):
        at = min(event.time_ns, event.received_ns or event.time_ns)
        if event.kind == "http.exchange":
            detail = details(event)
            asked = whole(detail.get("start_ns")) or at
            end = max(whole(detail.get("end_ns")), asked)
            first = whole(detail.get("first_ns"))
            out.append(Entry(asked, order, event, "ask"))
            if first:
                out.append(Entry(max(asked, first - LEAD_NS), order, event, "answer"))
            out.append(Entry(max(end, first), order, event, "told"))
        else:
            out.append(Entry(at, order, event, "ask" if event.kind == "http.request" else ""))
    out.sort(key=lambda entry: entry[:2])
    return out
