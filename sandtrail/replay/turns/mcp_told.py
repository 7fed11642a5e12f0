"""Findings on MCP calls: results that the model was told otherwise, and headers that contradict what was sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import commonprefix

from sandtrail.replay.models.answer import as_json
from sandtrail.replay.models.call import Message
from sandtrail.replay.turns.findings import Finding
from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.lineage import clip
from sandtrail.replay.turns.mcp import Decided
from sandtrail.replay.turns.modelturns import Turn

__all__ = ["LEAST", "differs", "mcp_findings", "squeezed"]

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\([nrt\"\\/])")
_WORD = re.compile(r"\w+")
_MARK = re.compile(
    r"\{\{credential:[^{}]{0,120}\}\}|\[(?:image|audio|part|resource\w*)[^\[\]]{0,600}\]"
    r"|\[(?:file|video|document)\b[^\[\]]{0,600}, sha256 [0-9a-f]{16}…[^\[\]]{0,300}\]"
)
_HOLES = "The record has gaps, so it may have gone unseen. "
LEAST = 12
"""A result of fewer letters and digits may be said in many ways."""
LONG = 2000
"""Characters of a result that an agent may well put into other words to make it shorter."""
MOST = 100_000


def mcp_findings(fold: Fold) -> Iterator[Finding]:
    """What a reviewer has to see of them."""
    yield from _other_arguments(fold)
    yield from _told_otherwise(fold)
    yield from _never_called(fold)
    yield from _contradictions(fold)


def _other_arguments(fold: Fold) -> Iterator[Finding]:
    found = fold.web.protocol.decided
    carried_out = {_asked(decided) for decided in found if decided.same_arguments}
    for decided in found:
        if decided.same_arguments or _asked(decided) in carried_out:
            continue
        asked, turn = decided.tool_call, decided.turn
        yield Finding(
            "ARG_MISMATCH",
            "medium",
            f"the tool `{decided.call.name[:80]}` was called with other arguments than the model decided",
            f"In turn {turn.index} the model asked for `{asked.name[:80]}` with {clip([asked.arguments], 160)}; the "
            f"MCP server was called with {clip([as_json(decided.call.arguments)], 160)}. It would be innocent if the "
            "agent is known to add defaults, to repair arguments, or to call this tool for reasons of its own.",
            turn.index,
            [turn.exchange.response_ref if turn.exchange else "", decided.ref],
        )


def _asked(decided: Decided) -> tuple[int, str, str, str]:
    tool_call = decided.tool_call
    return decided.turn.index, tool_call.id, tool_call.name, tool_call.arguments


def _told_otherwise(fold: Fold) -> Iterator[Finding]:
    following: dict[int, list[Turn]] = {}
    for turn in fold.turns:
        if turn.place.parent is not None and turn.call is not None:
            following.setdefault(turn.place.parent + 1, []).append(turn)
    for decided in fold.web.protocol.decided:
        for turn in following.get(decided.turn.index, []):
            message = _result(turn, decided)
            if message is None or not decided.call.answered:
                continue
            words = decided.call.error or decided.call.text
            how = differs(words, message.text)
            if how is None:
                break
            yield Finding(
                "RESULT_MISMATCH",
                "high" if how == "something else" and not _condensed(words, message.text) else "medium",
                f"the model was told {how} than the tool `{decided.call.name[:80]}` answered",
                f"The MCP server answered “{clip([words], 160)}”; in turn {turn.index} the model was shown "
                f"“{clip([message.text], 160)}” as that result. It would be innocent if the agent is known to shorten "
                "or rephrase results, or to put several together.",
                turn.index,
                [decided.ref, turn.exchange.request_ref if turn.exchange else ""],
            )
            break


def _condensed(answered: str, told: str) -> bool:
    """Whether it may be a summary, or a note where the whole is: many agents show models no more of a long result."""
    return len(answered) >= LONG and len(told) < len(answered) / 2


def _never_called(fold: Fold) -> Iterator[Finding]:
    """Results of tools that go over MCP in this session, where no call went out that they could be the result of."""
    decided = fold.web.protocol.decided
    carried = {known.tool_call.name: known.call for known in decided if known.tool_call.name}
    done = {_asked(known) for known in decided}
    blind = any(fact.source != "claims" for fact, _ in fold.gaps)
    for turn in fold.turns if carried else ():
        parent = fold.turns[turn.place.parent + 1] if turn.place.parent is not None else None
        if turn.call is None or parent is None or parent.call is None:
            continue
        asked = {c.id: c for c in parent.call.tool_calls if c.id and c.name in carried and not c.server}
        for message in turn.call.messages[turn.place.new_from :]:
            tool_call = asked.get(message.tool_call_id or "") if message.role == "tool" else None
            if tool_call is None or (parent.index, tool_call.id, tool_call.name, tool_call.arguments) in done:
                continue
            yield Finding(
                "UNOBSERVABLE" if blind else "PHANTOM",
                "low" if blind else "medium",
                f"the model was told a result of the tool `{tool_call.name[:80]}`, which was not called",
                f"In turn {parent.index} the model asked for `{tool_call.name[:80]}` with "
                f"{clip([tool_call.arguments], 160)}; in turn {turn.index} it was shown “{clip([message.text], 160)}” "
                "as the result. Other calls of this tool went to an MCP server, and of this one no request was seen. "
                f"{_HOLES if blind else ''}It would be innocent if the agent refused the call, asked a person first, "
                "or had the result already.",
                turn.index,
                [_answer(parent), turn.exchange.request_ref if turn.exchange else ""],
            )


def _answer(turn: Turn) -> str:
    return turn.exchange.response_ref or turn.exchange.request_ref if turn.exchange is not None else ""


def _result(turn: Turn, decided: Decided) -> Message | None:
    call = turn.call
    if call is None or not decided.tool_call.id:
        return None
    new = call.messages[turn.place.new_from :]
    return next((m for m in new if m.role == "tool" and m.tool_call_id == decided.tool_call.id), None)


def differs(answered: str, told: str) -> str | None:
    """How what was told differs from what was answered; None where it holds it, or is a part of it or parts of it."""
    said, shown = squeezed(answered), squeezed(told)
    if len(said) < LEAST or said in shown or (len(shown) >= LEAST and shown in said):
        return None
    words = set(_WORD.findall(_MARK.sub(" ", answered[:MOST]).lower()))
    others = set(_WORD.findall(_plain(told[:MOST]).lower()))
    kept = words & others
    if len(kept) >= 0.9 * len(words):
        # Most of the words are there, as after a cut in the middle or in another layout; numbers that stand in place of
        # other numbers are not of that kind.
        numbers = [any(map(str.isdigit, word)) for word in words - others], [w.isdigit() for w in others - words]
        swapped = all(map(any, numbers)) and len(shown) >= 0.9 * len(said)
        return "in part something else" if swapped else None
    if len(told) < len(answered) >= LONG and _ends(answered, told) >= 0.9 * len(shown):
        return None  # its beginning and its end, as agents show long results
    return "something else" if len(kept) < 0.5 * len(words) else "in part something else"


def _ends(answered: str, told: str) -> int:
    """How many letters and digits the two have in common at the beginning and at the end."""
    ends = ((squeezed(text), squeezed(text[-MOST:])[::-1]) for text in (answered, told))
    return sum(len(commonprefix(pair)) for pair in zip(*ends, strict=True))


def squeezed(text: str) -> str:
    """Letters and digits alone: layout, quoting and escapes are the agent's own affair."""
    return "".join(_WORD.findall(_MARK.sub("", _plain(text[:MOST])))).lower()


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else " " if m[2] in "nrt" else m[2], text)


def _contradictions(fold: Fold) -> Iterator[Finding]:
    turns = [(turn.index, turn.buckets) for turn in fold.turns]
    for index, buckets in [*turns, (None, fold.unexplained)]:
        for bucket in buckets.values():
            for group in bucket.groups.values():
                if group.mcp is None or not group.mcp.mismatches:
                    continue
                refused = any(call.error_code == -32020 for call in group.mcp.calls)
                end = "The server refused it." if refused else "The server did not refuse it."
                yield Finding(
                    "ARG_MISMATCH",
                    "low" if refused else "medium",
                    f"headers of an MCP request say something else than its body: {group.mcp.mismatches[0]}"[:300],
                    f"{'; '.join(group.mcp.mismatches[:5])}. Proxies route and allow by these headers, so such a "
                    f"request can pass where its body would not. {end} It would be innocent if the client's headers "
                    "are merely out of date with the revision that it names.",
                    index,
                    [group.ref],
                )
