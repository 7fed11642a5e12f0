"""Whether a sandbox was seen from its first instruction to its last, as far as the evidence can say.

gVisor's tracing fails open: a sandbox whose trace never connected runs all the same. So "nothing happened" needs proof:

1. the sandbox's trace connected, and was not attached to a sandbox that already ran;
2. of every container the first message is its start;
3. no gap is on record, whatever its cause, but for those of the network, which say nothing of what happened inside
   (and which whoever is inside could cause, to have the rest doubted): `egress` judges them, and `claims` those of
   the agent's own telemetry;
4. of a sandbox that has ended: the connection ended by itself, and the runtime's own count of messages that it could
   not deliver was read at the end. (What that count has beyond ours is a gap of its own.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sandtrail.replay.decode.others import OTHERS
from sandtrail.replay.decode.text import as_text
from sandtrail.replay.egress import OF_EGRESS, Balance

__all__ = ["Completeness", "Witness", "completeness"]

_END: Final = "end of connection"
_START: Final = "lifecycle.container_start"
_COUNT: Final = re.compile(r'"dropped":\d')
_MAX_CAUSES: Final = 20
_SHOWN: Final = 3
_NETWORK: Final = ("netfilter", "conntrack")
_SOURCE, _KIND, _CONTAINER, _OBJECT, _RESULT, _DETAIL = 3, 4, 8, 18, 19, 21


@dataclass(frozen=True, slots=True)
class Completeness:
    """`reason` is a plain sentence either way. `egress`: whether everything that left the sandbox's link is accounted
    for, None where that cannot be said; `egress_reason` says why. `claims`: whether all telemetry is kept that the
    sandbox sent us, None where nobody listened for it; `claims_reason` says what is missing."""

    from_first_instruction: bool
    reason: str
    egress: bool | None = None
    egress_reason: str = ""
    claims: bool | None = None
    claims_reason: str = ""


@dataclass(slots=True)
class Witness:
    """What has been seen of one session that bears on the question; plain data, kept with the session's row."""

    traces: int = 0
    attached: bool = False
    containers: list[str] = field(default_factory=list)
    late: str = ""
    """A container that was heard of before its start."""
    gaps: dict[str, list[int]] = field(default_factory=dict)
    """Cause -> [times, events lost, times without a count]."""
    ended: str | None = None
    """Why the last trace ended; None while one is open."""
    asked: bool = False
    """The runtime was asked at the end how much it had dropped, and could say."""
    listened: bool = False
    """There was a receiver of the agent's own telemetry."""
    unsaid: dict[str, list[int]] = field(default_factory=dict)
    """As `gaps`, of that telemetry."""
    balance: Balance = field(default_factory=Balance)
    """Of what left the sandbox's link."""

    def opened(self, descriptor: Mapping[str, Any]) -> None:
        """A trace connected."""
        self.traces += 1
        self.attached = self.attached or bool(descriptor.get("attached"))
        self.ended = None

    def closed(self, reason: str) -> None:
        """A trace ended."""
        self.ended = reason[:500]

    def heard(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Events of a trace, in the order in which they were received."""
        for container in {row[_CONTAINER] for row in rows}.difference(self.containers, ("",)):
            first = next(row for row in rows if row[_CONTAINER] == container)
            if first[_KIND] != _START:
                self.late = self.late or container
            if len(self.containers) < 1000:
                self.containers.append(container)

    def gap(self, row: tuple[Any, ...]) -> None:
        """Evidence is missing."""
        cause = as_text(row[_OBJECT], 200)
        if row[_SOURCE] in _NETWORK or cause in OF_EGRESS:
            self.balance.gap(cause)
            return
        if row[_SOURCE] in OTHERS:
            return  # what others did not see of the traffic says nothing of the sandbox
        gaps = self.unsaid if row[_SOURCE] == "claims" else self.gaps
        if cause not in gaps and len(gaps) >= _MAX_CAUSES:
            cause = "other causes"
        found = gaps.setdefault(cause, [0, 0, 0])
        found[0] += 1
        found[1] += row[_RESULT] or 0
        found[2] += row[_RESULT] is None

    def told(self, row: tuple[Any, ...]) -> None:
        """An act of the runtime; that it was asked how much it dropped is one."""
        if row[_OBJECT] == "trace-list":
            self.asked = _COUNT.search(row[_DETAIL]) is not None

    def verdict(self, *, over: bool) -> Completeness:
        """What all of it comes to; `over` is whether the session has ended."""
        whole, reason = self._whole(over)
        kept = not self.unsaid if self.listened else None
        return Completeness(whole, reason, *self.balance.verdict(), kept, _causes(self.unsaid, "exports"))

    def _whole(self, over: bool) -> tuple[bool, str]:
        problem = self._problem(over)
        if problem is not None:
            return False, problem
        told = "the trace connected before the first container's start, and nothing is missing"
        if not over:
            return True, f"{told} so far; what is dropped at the very end shows only then"
        return True, f"{told} to the end of the connection"

    def _problem(self, over: bool) -> str | None:
        if not self.traces:
            return "no trace of the sandbox connected: nothing that happened inside was seen"
        if self.attached:
            return "the recorder attached to a sandbox that already ran: what came before was not seen"
        if self.late:
            return f"the first message of container {self.late} is not its start: it ran before it was seen"
        if self.gaps:
            return "evidence is missing: " + _causes(self.gaps, "events")
        if not over:
            return None
        if not self.containers:
            return "the trace told of no container"
        if self.ended != _END:
            return (
                f"the trace did not end by itself: {self.ended}" if self.ended else "the trace's end is not on record"
            )
        return None if self.asked else "the runtime did not say at the end how much it had dropped"

    def plain(self) -> dict[str, Any]:
        """As the session's row keeps it."""
        return asdict(self)

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Witness:
        """Take up what `plain` gave."""
        return cls(**{**plain, "balance": Balance(**plain.get("balance", {}))})


def _causes(gaps: Mapping[str, Sequence[int]], things: str) -> str:
    listed = []
    for cause, (times, lost, blank) in list(gaps.items())[:_SHOWN]:
        much = f"{lost} {things}" if lost else f"{times} times"
        listed.append(f"{cause} ({much}{', how much is not known' if blank else ''})")
    more = len(gaps) - _SHOWN
    return "; ".join(listed) + (f"; {more} more causes" if more > 0 else "")


def completeness(session: Mapping[str, Any]) -> Completeness:
    """What the index says of a session, given the session's row."""
    plain = session["facts"].get("witness")
    witness = Witness.read(plain) if plain else Witness()
    return witness.verdict(over=session["state"] == "ended")
