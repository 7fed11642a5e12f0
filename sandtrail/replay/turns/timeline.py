"""A session's timeline as data (docs/architecture.md, "Timeline"), from the state that a fold has reached."""

from __future__ import annotations

from itertools import islice
from typing import Any

from sandtrail.replay.models.call import Message, ModelCall, ToolCall, scrub
from sandtrail.replay.turns.buckets import Bucket, Edge
from sandtrail.replay.turns.contradicted import Contradictions
from sandtrail.replay.turns.exfiltration import exfiltrations
from sandtrail.replay.turns.findings import Finding, bypasses, hidden, undecided_actions, unexplained
from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.histories import history_mismatches
from sandtrail.replay.turns.history import rewritten
from sandtrail.replay.turns.mcp_told import mcp_findings
from sandtrail.replay.turns.modelturns import Turn
from sandtrail.replay.turns.outputs import Row, counts, rows
from sandtrail.replay.turns.said import false_claims, result_mismatches
from sandtrail.replay.turns.telemetry import Claim, placed

__all__ = ["MAX_OUTPUTS", "View"]

MAX_OUTPUTS = 500
"""Rows of one turn in one answer; the rest is asked for by itself."""
MAX_CLAIMS_SHOWN = 100
NEVER_ASKED = "no recorded decision of the model asked for this tool call"
MAX_TEXT = 20_000
TAIL = 4_000
"""Of a longer text the end is shown too: what is to be overlooked stands there."""
MAX_MESSAGES = 200
MAX_CHANGED = 20
MAX_CHANGED_TEXT = 3_000
_SEVERITY = {"high": 0, "medium": 1, "low": 2}


class View:
    """What a fold has to show. Rows of turns in which nothing happened since the last look are kept."""

    def __init__(self, fold: Fold) -> None:
        self.fold = fold
        self._rows: dict[int, tuple[object, list[Row]]] = {}
        self._claims: tuple[object, dict[int | None, list[tuple[Claim, Edge | None]]]] = (None, {})
        self._findings: tuple[object, list[Finding]] = (None, [])
        self._contradictions = Contradictions(fold)
        self._changed: dict[int, list[dict[str, Any]]] = {}
        self._came: dict[int, dict[int, dict[str, str]]] = {}

    def outputs(self, turn: int | None) -> list[Row]:
        """All rows of a turn, or of what is unexplained."""
        buckets, events = self._held(turn)
        key, state = -1 if turn is None else turn, (events, self.fold.web.protocol.retold)
        if self._rows.get(key, (None,))[0] != state:
            self._rows[key] = (state, rows(buckets.values()))
        return self._rows[key][1]

    def _held(self, turn: int | None) -> tuple[dict[object, Bucket], int]:
        if turn is None:
            return self.fold.unexplained, self.fold.unexplained_events
        found = self.fold.turns[turn]
        # The operator's command ends in a later turn than it began.
        return found.buckets, found.events if turn else self.fold.events

    def findings(self, complete: bool, why: str) -> list[Finding]:
        """The session's findings, gravest first. `complete` and `why` say whether its record has holes."""
        fold = self.fold
        state = (fold.events, complete, why, sum(t.dirty for t in fold.turns), fold.web.protocol.retold)
        if self._findings[0] != state:
            found = [
                *undecided_actions(fold),
                *unexplained(fold),
                *hidden(fold),
                *bypasses(fold),
                *exfiltrations(fold),
                *false_claims(fold, complete, why),
                *result_mismatches(fold),
                *history_mismatches(fold),
                *mcp_findings(fold),
                *self._contradictions.findings(self._placed(), complete, why),
            ]
            found.sort(key=lambda f: (_SEVERITY.get(f.severity, 3), -1 if f.turn is None else f.turn))
            self._findings = (state, found)
        return self._findings[1]

    def as_dict(self, session: dict[str, Any], complete: bool, why: str, offset: int, limit: int) -> dict[str, Any]:
        """The timeline: turns `offset` to `offset + limit`, everything else whole but for the caps."""
        fold = self.fold
        found = self.findings(complete, why)
        return {
            "session": session,
            "turns": [self.turn(turn) for turn in fold.turns[offset : offset + limit]],
            "turns_total": len(fold.turns),
            "unexplained": self.outputs(None)[:MAX_OUTPUTS],
            "unexplained_total": len(self.outputs(None)),
            "findings": [finding.as_dict() for finding in found],
            "gaps": [fold.gap_of(fact) for fact, _ in fold.gaps[:MAX_OUTPUTS]],
            "gaps_total": len(fold.gaps),
            "claims": self._unplaced(),
        }

    def turn(self, turn: Turn) -> dict[str, Any]:
        """One turn."""
        outputs = self.outputs(turn.index)
        return {
            "index": turn.index,
            "kind": "model" if turn.exchange is not None else "start",
            "thread": turn.place.thread,
            "note": turn.place.note,
            "continues": None if turn.place.parent is None else turn.place.parent + 1,
            "started_by": _started_by(turn),
            "via": turn.via or None,
            "witnesses": [witness.as_dict() for witness in turn.witnesses],
            "input": _input(turn, self._rewritten(turn), self._origins(turn)),
            "decision": _decision(turn),
            "outputs": outputs[:MAX_OUTPUTS],
            "outputs_total": len(outputs),
            "counts": counts(turn.buckets.values()),
            "events_total": turn.events,
            "claims": [self._claimed(turn, *one) for one in self.claims(turn.index)[:MAX_CLAIMS_SHOWN]],
            "claims_total": len(self.claims(turn.index)),
        }

    def _origins(self, turn: Turn) -> dict[int, dict[str, str]]:
        """Whose words the new results are, where an answer held the same, by the place of the message."""
        if turn.index not in self._came:
            new, start = (turn.call.messages if turn.call else []), turn.place.new_from
            shown = list(enumerate(new[start:], start))[-MAX_MESSAGES:]
            found = ((place, self.fold.web.passages.origin(m)) for place, m in shown if m.role == "tool")
            self._came[turn.index] = {at: {"ref": came.ref, "object": came.object} for at, came in found if came}
        return self._came[turn.index]

    def _rewritten(self, turn: Turn) -> list[dict[str, Any]]:
        """Messages of the turn before that the model is not shown any more as they were, and what it is shown."""
        parent = turn.place.parent
        told = any(note.startswith("history ") for note in turn.place.notes)
        if not told or turn.call is None or parent is None or not turn.place.new_from:
            return []  # where a summary stands for all of it, the turns before show what is gone
        if turn.index not in self._changed:
            before = self.fold.turns[parent + 1].call
            found = rewritten(before.messages if before else (), turn.call.messages, turn.place.new_from)
            pairs = list(islice(found, MAX_CHANGED))
            wanted = {m.tool_call_id for pair in pairs for m in pair if m is not None and m.tool_call_id}
            tools = _tools(wanted, *((before,) if before else ()), turn.call)
            self._changed[turn.index] = [_rewrite(was, now, tools) for was, now in pairs]
        return self._changed[turn.index]

    def claims(self, turn: int | None) -> list[tuple[Claim, Edge | None]]:
        """What the agent said of a turn over OTLP, or of none (None)."""
        return self._placed().get(turn, [])

    def _claimed(self, turn: Turn, claim: Claim, edge: Edge | None) -> dict[str, Any]:
        """A claim, and what it says otherwise than it was seen."""
        return claim.as_dict(edge, "; ".join(words for _, words in self._contradictions.of(turn, claim, edge)) or None)

    def _placed(self) -> dict[int | None, list[tuple[Claim, Edge | None]]]:
        fold = self.fold
        state = (fold.telemetry.total, len(fold.turns), sum(t.dirty for t in fold.turns), fold.events)
        if self._claims[0] != state:
            self._claims = (state, placed(fold.turns, fold.telemetry.claims))
        return self._claims[1]

    def _unplaced(self) -> dict[str, Any]:
        """The claims of no turn, and how many there are in all."""
        told, unplaced = self.fold.telemetry, self.claims(None)
        decided = any(turn.exchange is not None for turn in self.fold.turns)
        shown = [
            claim.as_dict(edge, NEVER_ASKED if decided and claim.operation == "execute_tool" else None)
            for claim, edge in unplaced[:MAX_CLAIMS_SHOWN]
        ]
        counts = {"total": told.total, "others": told.others, "left_out": told.total - len(told.claims)}
        return {"unplaced": shown, "unplaced_total": len(unplaced), **counts}


def _started_by(turn: Turn) -> dict[str, Any] | None:
    started = turn.place.started_by
    if started is None:
        return None
    named = {"turn": started.call + 1, "thread": started.thread, "tool_call_id": started.tool_call}
    return {**named, "name": started.name, "confidence": started.confidence}


def _input(turn: Turn, changed: list[dict[str, Any]], origins: dict[int, dict[str, str]]) -> dict[str, Any] | None:
    exchange, call = turn.exchange, turn.call
    if exchange is None or call is None:
        return None
    new = call.messages[turn.place.new_from :]
    tools = _tools({m.tool_call_id for m in new if m.tool_call_id}, call)
    return {
        "ref": exchange.request_ref,
        "time_ns": exchange.request_ns,
        "api": call.api,
        "model": call.model,
        "messages_total": len(call.messages),
        "new_total": len(new),
        "new_messages": [
            {
                **_named(m, tools),
                "text": _cut(m.text),
                "characters": len(m.text),
                "is_error": m.is_error,
                "origin": origins.get(place),
            }
            for place, m in list(enumerate(new, turn.place.new_from))[-MAX_MESSAGES:]
        ],
        "changed": changed,
        "cut": call.input_cut,
    }


def _tools(wanted: set[str], *calls: ModelCall) -> dict[str, str]:
    """The names of the tools that calls in a history are of, by the calls' ids. The latest are looked at first."""
    found: dict[str, str] = {}
    for call in calls:
        for message in reversed(call.messages):
            if len(found) == len(wanted):
                return found
            found |= {asked.id: asked.name for asked in message.tool_calls if asked.id in wanted}
    return found


def _named(message: Message, tools: dict[str, str]) -> dict[str, Any]:
    ident = message.tool_call_id
    return {"role": message.role, "tool_call_id": ident, "tool": tools.get(ident) if ident else None}


def _rewrite(was: Message | None, now: Message | None, tools: dict[str, str]) -> dict[str, Any]:
    either = now or was
    assert either is not None
    said = {name: None if m is None else _cut(_whole(m), MAX_CHANGED_TEXT) for name, m in (("was", was), ("now", now))}
    return {**_named(either, tools), **said}


def _whole(message: Message) -> str:
    """A message with the tool calls in it."""
    return "\n".join(filter(None, (message.text, *(f"→ {c.name}({c.arguments})" for c in message.tool_calls))))


def _result(asked: ToolCall, call: ModelCall) -> dict[str, Any]:
    """What a tool that ran at the provider's side gave, where that came with the answer."""
    found = call.choices[0].results if asked.server else []
    result = next((one for one in found if one.tool_call_id == asked.id), None)
    return {"result": _cut(result.text) if result else None, "failed": result.is_error if result else None}


def _decision(turn: Turn) -> dict[str, Any] | None:
    exchange, call = turn.exchange, turn.call
    if exchange is None or call is None or not (exchange.first_ns or call.error):
        return None
    return {
        "ref": exchange.response_ref or (exchange.refs[-1] if exchange.refs else ""),
        "time_ns": exchange.first_ns or exchange.end_ns,
        "text": _cut(call.text),
        "reasoning": _cut(call.reasoning),
        "refusal": call.refusal,
        "tool_calls": [
            {"id": c.id, "name": c.name, "arguments": _cut(c.arguments), "server": c.server, **_result(c, call)}
            for c in call.tool_calls[:MAX_MESSAGES]
        ],
        "commands": [_cut(scrub(c.text)) for c in turn.commands],
        "finish_reason": call.finish_reason,
        "streamed": call.streamed,
        "cut": call.cut,
        "error": call.error,
        "problems": call.problems,
    }


def _cut(text: str, most: int = MAX_TEXT) -> str:
    if len(text) <= most:
        return text
    tail = min(TAIL, most // 4)
    left = len(text) - most
    return f"{text[: most - tail]}\n… ({left:,} of {len(text):,} characters are left out here) …\n{text[-tail:]}"
