"""The agent's own words beside the turns that they claim to describe: claims of spans and logs, matched to turns.

A claim is matched by what it names, not by whether it is right, so what names a turn may still tell lies of it. In this
order: the response id, the id of a tool call, the span that it belongs to, and last the time it claims for itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sandtrail.replay.decode.text import fit
from sandtrail.replay.events import Event
from sandtrail.replay.turns.buckets import Edge
from sandtrail.replay.turns.facts import details, whole
from sandtrail.replay.turns.modelturns import Turn

__all__ = ["MAX_CLAIMS", "Claim", "Telemetry", "placed"]

MAX_CLAIMS: Final = 1000
"""Of a session, that are kept and matched; all are in the index."""
_ROOM: Final = 6000
SLACK_NS: Final = 250_000_000
"""How far the two clocks may be apart, and a span be wider than the exchange that it describes."""
_WHOLE: Final = frozenset({"invoke_agent", "create_agent", "invoke_workflow", "chain", "task"})
"""Operations that span turns rather than describe one."""


@dataclass(slots=True)
class Claim:
    """One span or log record that tells of an operation of the agent's."""

    ref: str
    n: int
    kind: str
    received_ns: int
    title: str
    told: dict[str, Any]
    """The claim itself, see replay/claims/normal.py; fitted."""
    response: str = ""
    calls: frozenset[str] = frozenset()
    """Ids of the tool calls that it tells of as decided or run."""
    spans: tuple[str, str] = ("", "")
    """Trace and span."""
    start_ns: int = 0
    end_ns: int = 0

    @property
    def operation(self) -> str:
        """What it says was done."""
        return str(self.told.get("operation") or "")

    def as_dict(self, edge: Edge | None, note: str | None = None) -> dict[str, Any]:
        """The claim for the timeline."""
        return {
            "ref": self.ref,
            "n": self.n,
            "kind": self.kind,
            "received_ns": self.received_ns,
            "title": self.title,
            "operation": self.operation,
            "told": self.told,
            "edge": {"reason": edge.reason, "confidence": edge.confidence} if edge is not None else None,
            "note": note,
        }


@dataclass(slots=True)
class Telemetry:
    """Takes the claim.* events of a session."""

    claims: list[Claim] = field(default_factory=list)
    total: int = 0
    """Claims of operations, those included that are not kept."""
    others: int = 0
    """Spans, log records and metrics that tell of no operation."""

    def take(self, fact: Event) -> None:
        """Take one event."""
        if fact.kind not in ("claim.span", "claim.log"):
            self.others += fact.kind == "claim.metric"
            return
        told = details(fact)
        if not told.get("operation"):
            self.others += 1
            return
        self.total += 1
        if len(self.claims) < MAX_CLAIMS:
            self.claims.append(_claim(fact, told))


def _claim(fact: Event, told: dict[str, Any]) -> Claim:
    tool, output = told.get("tool"), told.get("output")
    calls = {str(tool.get("id") or "")} if isinstance(tool, dict) else set()
    for message in output if isinstance(output, list) else []:
        asked = message.get("tool_calls") if isinstance(message, dict) else None
        calls |= {str(call.get("id") or "") for call in asked or [] if isinstance(call, dict)}
    start = whole(told.get("start_ns"))
    return Claim(
        *(fact.ref, fact.n, fact.kind, fact.received_ns, fact.object, fit(told, _ROOM)),
        response=str(told.get("response_id") or ""),
        calls=frozenset(calls - {""}),
        spans=(str(told.get("trace") or ""), str(told.get("span") or "")),
        start_ns=start,
        end_ns=max(whole(told.get("end_ns")), start),
    )


def placed(turns: Sequence[Turn], claims: Iterable[Claim]) -> dict[int | None, list[tuple[Claim, Edge | None]]]:
    """The claims by the turn (None: of none) that they claim to describe, and why they stand there."""
    known = _Known(turns)
    spans: dict[tuple[str, str], int] = {}
    found: dict[int | None, list[tuple[Claim, Edge | None]]] = {}
    waiting: list[Claim] = []
    for claim in claims:
        place = known.named(claim)
        if place is None:
            waiting.append(claim)
            continue
        found.setdefault(place[0], []).append((claim, place[1]))
        spans.setdefault(claim.spans, place[0])
    for claim in waiting:
        turn = spans.get(claim.spans) if all(claim.spans) else None
        if turn is not None:
            found.setdefault(turn, []).append((claim, Edge("it says it belongs to a span that stands here", 0.8)))
            continue
        place = known.timed(claim)
        found.setdefault(place[0] if place else None, []).append((claim, place[1] if place else None))
    for held in found.values():
        held.sort(key=lambda one: (one[0].start_ns or one[0].received_ns, one[0].received_ns, one[0].n))
    return found


Place = tuple[int, Edge]


class _Known:
    """What turns can be named by."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._responses: dict[str, list[tuple[int, int]]] = {}
        self._calls: dict[str, list[tuple[int, int]]] = {}
        self._tools: dict[int, set[str]] = {}
        self._times: list[tuple[int, int, int]] = []
        for turn in turns:
            call, exchange = turn.call, turn.exchange
            if call is None or exchange is None:
                continue
            if call.response_id:
                self._responses.setdefault(call.response_id, []).append((turn.decided_ns, turn.index))
            for asked in call.tool_calls:
                if asked.id:
                    self._calls.setdefault(asked.id, []).append((turn.decided_ns, turn.index))
            self._tools[turn.index] = {asked.name for asked in call.tool_calls}
            self._times.append((turn.request_ns, exchange.end_ns or turn.decided_ns or turn.request_ns, turn.index))
        self._times.sort()

    def named(self, claim: Claim) -> Place | None:
        """The turn that a claim names."""
        answered = self._responses.get(claim.response)
        if answered:
            # A claim of a call lasts until the answer is there.
            return _latest(answered, claim.end_ns), Edge("it names this answer's response id", 0.95)
        for ident in sorted(claim.calls):
            if decided := self._calls.get(ident):
                told_ns = claim.start_ns if claim.operation == "execute_tool" else claim.end_ns
                return _latest(decided, told_ns), Edge("it names a tool call of this decision", 0.95)
        return None

    def timed(self, claim: Claim) -> Place | None:
        """The turn in whose time a claim says it happened."""
        if not claim.start_ns or claim.operation in _WHOLE:
            return None
        if claim.operation == "execute_tool":
            return self._ran(claim)
        best: tuple[int, int] | None = None
        for begin, end, index in self._times:
            shared = min(end, claim.end_ns) - max(begin, claim.start_ns)
            if claim.start_ns <= begin + SLACK_NS and claim.end_ns >= end - SLACK_NS and (not best or shared > best[0]):
                best = (shared, index)
        if best is None:
            return None
        if claim.response:
            return best[1], Edge("by time alone: no recorded answer has the response id that it names", 0.3)
        return best[1], Edge("by time: it says it lasted while this call did", 0.5)

    def _ran(self, claim: Claim) -> Place | None:
        if claim.calls:
            return None  # it names a call, and no decision asked for that one
        tool = claim.told.get("tool")
        name = str(tool.get("name") or "") if isinstance(tool, dict) else ""
        last = bisect_right(self._times, (claim.start_ns + SLACK_NS, 1 << 63, 0))
        for _, _, index in reversed(self._times[:last]):
            if name and name in self._tools.get(index, ()):
                return index, Edge("by time: the last decision before it asked for a tool of this name", 0.5)
        return None


def _latest(decided: list[tuple[int, int]], told_ns: int) -> int:
    """Of decisions under the same name, which servers do give twice, the last one before what is told of it."""
    before = [place for place in decided if place[0] <= told_ns + SLACK_NS] or decided[:1]
    return max(before)[1]
