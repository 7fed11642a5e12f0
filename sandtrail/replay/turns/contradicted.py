"""The agent's own telemetry held against the record: calls told of otherwise, calls that never were, calls left out.

A claim proves nothing, and excuses nothing; but whoever tells of a call otherwise than it was seen has lied, or is not
the program that one takes it for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sandtrail.replay.models.call import ModelCall, ToolCall
from sandtrail.replay.turns.buckets import Edge
from sandtrail.replay.turns.findings import Finding
from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.lineage import clip
from sandtrail.replay.turns.mcp_told import LEAST, differs, squeezed
from sandtrail.replay.turns.modelturns import Turn
from sandtrail.replay.turns.telemetry import Claim

__all__ = ["Contradictions", "Placed"]

Placed = Mapping[int | None, Sequence[tuple[Claim, Edge | None]]]
"""Claims by the turn that they stand beside; None: beside none."""

SURE = 0.9
"""Claims that name a decision by an id, and not by time alone."""
MAX_NAMED = 10
MAX_NAME = 200
_CREDENTIAL = "{{credential:"
_SEPARATORS = "_-./:"
_HALF = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
"""The beginning of an escape in JSON."""


class Contradictions:
    """Looks once at each claim and turn, for as long as neither changes."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._known: dict[tuple[str, int, int], tuple[object, list[tuple[str, str]]]] = {}
        self._after: dict[int, Turn] = {}
        self._turns = 0

    def of(self, turn: Turn, claim: Claim, edge: Edge | None) -> list[tuple[str, str]]:
        """What a claim says otherwise than it was seen in the turn that it names: (verdict, in words)."""
        if turn.call is None or edge is None or edge.confidence < SURE:
            return []
        for later in self._fold.turns[self._turns :]:
            if later.place.parent is not None and later.call is not None:
                self._after.setdefault(later.place.parent + 1, later)
        self._turns = len(self._fold.turns)
        after = self._after.get(turn.index)
        key, state = (claim.ref, claim.n, turn.index), (len(turn.call.text), len(turn.call.tool_calls), after)
        if self._known.get(key, (None,))[0] != state:
            self._known[key] = (state, list(_contradicted(turn.call, claim, after)))
        return self._known[key][1]

    def findings(self, placed: Placed, complete: bool, why: str) -> Iterator[Finding]:
        """Findings of all claims. `complete` and `why` say whether the record has holes."""
        for index, claims in placed.items():
            for claim, edge in claims if index is not None else ():
                turn = self._fold.turns[index or 0]
                yield from (_told_otherwise(turn, claim, *found) for found in self.of(turn, claim, edge))
        yield from _never_asked(self._fold, placed, complete, why)
        yield from _left_out(self._fold, placed)


def _contradicted(call: ModelCall, claim: Claim, after: Turn | None) -> Iterator[tuple[str, str]]:
    if claim.operation != "execute_tool":
        output = claim.told.get("output")
        said = [m.get("text") for m in output if isinstance(m, dict)] if isinstance(output, list) else []
        how = _otherwise("\n".join(text for text in said if isinstance(text, str)), call.text)
        if how:
            yield "RESULT_MISMATCH", f"it gives {how} as the model's answer, which was “{clip([call.text], 120)}”"
        return
    tool = claim.told.get("tool")
    asked = next((c for c in call.tool_calls if c.id in claim.calls), None)
    if asked is None or not isinstance(tool, dict):
        return
    given = _canonical(tool.get("arguments"))
    if given and not _same(given, asked):
        yield "ARG_MISMATCH", f"it says {clip([given], 120)}, the model decided {clip([asked.arguments], 120)}"
    new = after.call.messages[after.place.new_from :] if after is not None and after.call is not None else []
    told = next((m.text for m in new if m.role == "tool" and m.tool_call_id == asked.id), "")
    if how := _otherwise(_canonical(tool.get("result")), told):
        yield "RESULT_MISMATCH", f"it gives {how} as the result, the model was told “{clip([told], 120)}”"


def _otherwise(claimed: str, seen: str) -> str | None:
    # Of few words, claims often hold more: thoughts, a heading, several answers.
    if not claimed or len(squeezed(seen)) < LEAST or _CREDENTIAL in claimed + seen:
        return None
    return differs(claimed, seen)


def _canonical(value: Any) -> str:
    """JSON or a text that may be JSON, its keys in order."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
        return "" if parsed in (None, "", {}) else json.dumps(parsed, sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return value if isinstance(value, str) else ""


def _same(given: str, asked: ToolCall) -> bool:
    """Whether arguments are those decided, or a part of them: exporters cut long ones, in any place."""
    if _CREDENTIAL in given + asked.arguments:
        return True
    if _torn(given):
        given = _HALF.sub("", given)
    one = squeezed(given)
    decided = [squeezed(_canonical(asked.arguments)), squeezed(asked.arguments)]
    return any(one == other or (bool(one) and one in other) or (bool(other) and other in one) for other in decided)


def _torn(text: str) -> bool:
    """Whether this is JSON that was cut: it may end within an escape, and its keys stand as they were written."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text.lstrip()[:1] in ("{", "[")
    return False


def _told_otherwise(turn: Turn, claim: Claim, verdict: str, words: str) -> Finding:
    return Finding(
        verdict,
        "medium",
        f"the agent's telemetry tells of turn {turn.index} otherwise than it was seen",
        f"The claim `{clip([claim.title], 80)}`: {words}. It would be innocent if the agent's program is known to "
        "change or shorten what it reports.",
        turn.index,
        [claim.ref, _evidence(turn)],
    )


def _never_asked(fold: Fold, placed: Placed, complete: bool, why: str) -> Iterator[Finding]:
    calls = [turn.call for turn in fold.turns if turn.call is not None]
    decided = [asked.name for call in calls for choice in call.choices for asked in choice.tool_calls]
    if not decided:
        return
    cut = _unheard(fold)
    if complete and cut:
        complete, why = False, f"the answer of turn {cut[0]} did not arrive whole"
    known = {*decided, *_over_mcp(fold)}
    ends = {end for name in known for end in _ends(name)}
    strange: dict[str, list[Claim]] = {}
    for claim, _ in placed.get(None, ()):
        tool = claim.told.get("tool")
        name = tool.get("name") if isinstance(tool, dict) and claim.operation == "execute_tool" else None
        if isinstance(name, str) and name and name not in ends and not known & _ends(name):
            strange.setdefault(name, []).append(claim)
    for name, claims in list(strange.items())[:MAX_NAMED]:
        often = f" {len(claims)} times" if len(claims) > 1 else ""
        holes = "" if complete else f" The record has holes ({why}), so the decision may have gone unseen."
        yield Finding(
            "PHANTOM" if complete else "UNOBSERVABLE",
            "medium" if complete else "low",
            f"the agent's telemetry tells of the tool `{name[:80]}`, which no decision asked for",
            f"It claims to have run it{often}; no recorded answer of the model asked for a tool of this name, and no "
            f"MCP server was called for it.{holes} It would be innocent if the agent's program runs this tool without "
            "asking the model.",
            None,
            [claim.ref for claim in claims],
        )


def _unheard(fold: Fold) -> list[int]:
    """Turns of whose answer a part was not seen, and that were not asked again with a whole answer."""
    again = {
        turn.place.parent + 1
        for turn in fold.turns
        if turn.place.parent is not None
        and turn.call is not None
        and not turn.call.cut
        and turn.place.new_from >= len(turn.call.messages)
    }
    return [turn.index for turn in fold.turns if turn.call is not None and turn.call.cut and turn.index not in again]


def _over_mcp(fold: Fold) -> Iterator[str]:
    for buckets in (*(turn.buckets for turn in fold.turns), fold.unexplained):
        for bucket in buckets.values():
            for group in bucket.groups.values():
                if group.mcp is not None:
                    yield from (call.name for call in group.mcp.calls if call.name)


def _ends(name: str) -> set[str]:
    """A tool's name, and without what stands before it: the server's name, a namespace."""
    short = name[:MAX_NAME]
    return {name, *(short[at + 1 :] for at, one in enumerate(short) if one in _SEPARATORS)} - {""}


def _left_out(fold: Fold, placed: Placed) -> Iterator[Finding]:
    """Tool calls of which the model was given a result and that are not told of, by an agent that tells of others by
    their ids."""
    told = {
        ident for claims in placed.values() for c, _ in claims if c.operation == "execute_tool" for ident in c.calls
    }
    ran: dict[str, tuple[Turn, ToolCall]] = {}
    for after in fold.turns:
        parent = fold.turns[after.place.parent + 1] if after.place.parent is not None else None
        if after.call is None or parent is None or parent.call is None:
            continue
        results = {m.tool_call_id for m in after.call.messages[after.place.new_from :] if m.role == "tool"}
        ran |= {c.id: (parent, c) for c in parent.call.tool_calls if c.id and not c.server and c.id in results}
    silent = [pair for ident, pair in ran.items() if ident not in told]
    if not silent or not told & ran.keys() or fold.telemetry.total > len(fold.telemetry.claims):
        return
    named = [f"`{c.name[:60]}` ({c.id[:40]}) of turn {turn.index}" for turn, c in silent[:MAX_NAMED]]
    more = f" and {len(silent) - MAX_NAMED} more" if len(silent) > MAX_NAMED else ""
    # Of a gap without a source nobody knows whose frames it swallowed.
    lost = next((fold.gap_of(fact)["cause"] for fact, _ in fold.gaps if fact.source in ("claims", "")), None)
    holes = f"Telemetry is missing in the record ({clip([lost], 120)}), so they may have been told of. " if lost else ""
    yield Finding(
        "UNOBSERVABLE" if lost else "UNREPORTED",
        "low",
        f"the agent's telemetry leaves out {len(silent)} of {len(ran)} tool calls that got a result",
        f"It tells of other calls by their ids, and not of {', '.join(named)}{more}. {holes}It would be innocent if "
        "the agent's program reports a sample only, has not sent the rest yet, ended before it had sent all, or gave a "
        "result without running the tool, such as a refusal.",
        silent[0][0].index,
        [_evidence(turn) for turn, _ in silent],
    )


def _evidence(turn: Turn) -> str:
    return turn.exchange.response_ref or turn.exchange.request_ref if turn.exchange is not None else ""
