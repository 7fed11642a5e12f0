"""MCP in a session: which decision asked for a call, and answers that come by another exchange than their question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandtrail.replay.models.call import ToolCall
from sandtrail.replay.models.mcp import McpAnswer, McpCall, McpExchange
from sandtrail.replay.turns.buckets import Edge
from sandtrail.replay.turns.lineage import TOLERANCE_NS
from sandtrail.replay.turns.modelturns import Turn

__all__ = ["SAME", "Decided", "Protocol"]

MAX_TURNS = 60
"""So many of the latest decisions may be what a call comes from."""
MAX_OPEN = 10_000
SAME = 0.9
"""From this confidence on name and arguments are those decided."""
_SEPARATORS = "_-./:"

Key = tuple[tuple[str, str], bool, str]
"""The session, whether the server asked, the request's id."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A tool call of a model, and the MCP call that carried it out."""

    turn: Turn
    tool_call: ToolCall
    call: McpCall
    ref: str
    same_arguments: bool


class Protocol:
    """Takes the MCP exchanges of a session, in the order of time."""

    def __init__(self, turns: list[Turn]) -> None:
        self._turns = turns
        self._open: dict[Key, McpCall] = {}
        self._early: dict[Key, McpAnswer] = {}
        self._states: dict[tuple[str, str], McpCall] = {}
        self._used: set[tuple[int, int]] = set()
        self.decided: list[Decided] = []
        self.retold = 0
        """How often an answer was found for a call of an earlier exchange."""

    def asked(self, said: McpExchange, at_ns: int, ref: str) -> tuple[Turn, Edge] | None:
        """The decision that this exchange carries out, of several the first's, and why that is known; else None."""
        first: tuple[Turn, Edge] | None = None
        for call in said.calls:
            if call.method != "tools/call" or call.from_server:
                continue
            found = self._decision(call, at_ns)
            if found is None:
                continue
            (turn, place), (confidence, reason) = found
            self._used.add((turn.index, place))
            tool_call = turn.call.tool_calls[place] if turn.call is not None else ToolCall("", "", "")
            self.decided.append(Decided(turn, tool_call, call, ref, confidence >= SAME))
            first = first or (turn, Edge(reason, confidence))
        return first

    def told(self, said: McpExchange, before: McpExchange | None) -> None:
        """The exchange is whole: bring its answers to their questions. `before` is what was known when it was asked."""
        for place, call in enumerate(said.calls):
            if call.id and not call.answered:
                self._await((said.link, call.from_server, call.id), call)
            if before is not None and place < len(before.calls):
                self._replace(before.calls[place], call)
            state = call.result.get("requestState") if isinstance(call.result, dict) else None
            if isinstance(state, str):
                _put(self._states, (said.link[0], state), call)
            self._again(said, call)
        for answers, from_server in ((said.to_client, False), (said.to_server, True)):
            for answer in answers:
                key = (said.link, from_server, answer.id)
                asked = self._open.pop(key, None)
                if asked is None:
                    _put(self._early, key, answer)
                else:
                    asked.answer(answer)
                    self.retold += 1

    def _await(self, key: Key, call: McpCall) -> None:
        early = self._early.pop(key, None)
        if early is not None:
            call.answer(early)
        else:
            _put(self._open, key, call)

    def _replace(self, old: McpCall, new: McpCall) -> None:
        for place in range(len(self.decided) - 1, max(-1, len(self.decided) - MAX_TURNS), -1):
            known = self.decided[place]
            if known.call is old:
                self.decided[place] = Decided(known.turn, known.tool_call, new, known.ref, known.same_arguments)

    def _again(self, said: McpExchange, call: McpCall) -> None:
        """A request made again with what the server wanted to be told: these are the answers to its questions."""
        given, state = call.params.get("inputResponses"), call.params.get("requestState")
        first = self._states.get((said.link[0], state)) if isinstance(state, str) else None
        if first is None or not isinstance(given, dict):
            return
        for name, asked in first.wants.items():
            if name in given and not asked.answered:
                asked.answer(McpAnswer("", given[name]))
                self.retold += 1

    def _decision(self, call: McpCall, at_ns: int) -> tuple[tuple[Turn, int], tuple[float, str]] | None:
        best: tuple[tuple[float, bool, int], tuple[Turn, int], tuple[float, str]] | None = None
        for turn, place, tool_call in self._candidates(at_ns):
            fit = _fits(tool_call, call)
            # One tool call may be carried out twice; another one of the same name is not a second try.
            if fit is None or (fit[0] < SAME and (turn.index, place) in self._used):
                continue
            weight = (fit[0], (turn.index, place) not in self._used, turn.index)
            if best is None or weight > best[0]:
                best = (weight, (turn, place), fit)
        return best[1:] if best is not None else None

    def _candidates(self, at_ns: int) -> Iterator[tuple[Turn, int, ToolCall]]:
        for turn in self._turns[: -MAX_TURNS - 1 : -1]:
            if not turn.decided_ns or turn.decided_ns - TOLERANCE_NS > at_ns or turn.call is None:
                continue
            for place, tool_call in enumerate(turn.call.tool_calls[:200]):
                if not tool_call.server:
                    yield turn, place, tool_call


def _fits(tool_call: ToolCall, call: McpCall) -> tuple[float, str] | None:
    """How sure it is that a tool call of the model is this call, and in which words."""
    name, said = call.name, tool_call.name
    if not name or not (said == name or (said.endswith(name) and said[-len(name) - 1] in _SEPARATORS)):
        return None
    what = f"tool call `{said[:100]}`{f' ({tool_call.id[:60]})' if tool_call.id else ''} of the decision"
    if _equal(tool_call.parsed if tool_call.parsed is not None else {}, call.arguments):
        return (0.97 if said == name else 0.93), f"{what}: the same tool with the same arguments"
    return (0.6 if said == name else 0.5), f"{what}: the same tool, with other arguments than these"


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == (other if other is not None else {}))
    except RecursionError:
        return False


def _put[K, V](held: dict[K, V], key: K, value: V) -> None:
    if len(held) >= MAX_OPEN:
        held.pop(next(iter(held)))
    held[key] = value
