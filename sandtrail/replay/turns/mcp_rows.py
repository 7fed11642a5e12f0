"""Rows of MCP exchanges: one for each call, those of the server included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sandtrail.replay.models.call import scrub
from sandtrail.replay.models.mcp import McpCall, McpExchange
from sandtrail.replay.models.mcp_words import content_words

__all__ = ["mcp_rows"]

MAX_CALLS = 50
"""Calls of one exchange that have a row of their own."""
MAX_WORDS = 400
MAX_PROBLEMS = 5

Row = dict[str, Any]


def mcp_rows(row: Row, said: McpExchange, relay: str = "") -> Iterator[Row]:
    """The rows that stand in place of an exchange's own; all have its evidence. `relay`: whose words it carries."""
    calls = [*said.calls, *(wanted for call in said.calls for wanted in call.wants.values())]
    for place, call in enumerate(calls[:MAX_CALLS]):
        unanswered = said.error if call.id and not call.answered and not call.from_server else None
        flags = set(row["flags"]) | _flags(call) | ({"failed"} if unanswered else set())
        if place == 0:
            flags |= ({"mismatch"} if said.mismatches else set()) | ({"cut"} if said.cut else set())
        words = _words(call, unanswered)
        summary = f"{said.server}: {words}" if words else said.server
        if place == 0:
            summary = "; ".join((*said.mismatches, *filter(None, (relay,)), summary, *_left_out(said)))
        yield {**row, "object": f"{call.method} {call.name}".strip(), "summary": summary, "flags": sorted(flags)}
    if len(calls) > MAX_CALLS:
        yield {**row, "object": "more calls", "summary": f"{len(calls) - MAX_CALLS} more in the same exchange"}
    if not calls:
        yield {**row, "object": _nameless(said), "summary": "; ".join((_told(said), *_left_out(said)))}


def _left_out(said: McpExchange) -> list[str]:
    """What of the exchange is shown in no row, or could be read in two ways."""
    more = len(said.problems) - MAX_PROBLEMS
    return [*said.problems[:MAX_PROBLEMS], *([f"{more} more of this kind"] if more > 0 else [])]


def _nameless(said: McpExchange) -> str:
    if said.kind == "end":
        return "end of the session"
    if said.kind == "stream":
        return "stream of the server's messages"
    return "answer to the server" if said.to_server else "MCP"


def _told(said: McpExchange) -> str:
    answers = said.to_server or said.to_client
    words = " | ".join(filter(None, (content_words(answer.result) for answer in answers[:5])))
    end = said.error or _short(words) or (f"{len(answers)} answers" if answers else "no messages")
    return f"{said.server}: {end}"


def _flags(call: McpCall) -> set[str]:
    flags = {"asks"} if call.from_server else set()
    if call.error is not None or call.is_error:
        flags.add("failed")
    return flags


def _words(call: McpCall, unanswered: str | None) -> str:
    asked = content_words(call.params) if call.from_server else ""
    asked = asked or _shown(call.arguments if call.arguments is not None else _own(call.params))
    again = "again, with what the server wanted to be told" if call.params.get("inputResponses") else ""
    outcome = _short(unanswered) if unanswered else _outcome(call)
    return " → ".join(filter(None, (_short(asked), again, outcome)))


def _own(params: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if key not in _ENVELOPE}


def _outcome(call: McpCall) -> str:
    if not call.id and not call.answered:
        return ""
    if call.error is not None:
        return f"error {call.error_code}: {_short(call.error)}" if call.error_code else f"error: {_short(call.error)}"
    if call.wants:
        return f"the server wants to be told first: {', '.join(call.wants)}"
    if not call.answered:
        return "no answer was seen"
    listed = next((call.result[key] for key in _LISTS if _is_list(call.result, key)), None)
    if listed is not None:
        names = [str(entry.get("name") or entry.get("uri") or "?") for entry in listed[:40] if isinstance(entry, dict)]
        return _short(f"{len(listed)}: {', '.join(names)}")
    words = call.text or _shown(call.structured if call.structured is not None else call.result)
    return ("failed: " if call.is_error else "") + _short(words)


_ENVELOPE = ("_meta", "name", "uri", "inputResponses", "requestState")
_LISTS = ("tools", "prompts", "resources", "resourceTemplates", "roots")


def _is_list(result: Any, key: str) -> bool:
    return isinstance(result, dict) and isinstance(result.get(key), list)


def _shown(value: Any) -> str:
    if value in (None, {}, []):
        return ""
    try:
        return scrub(json.dumps(value, ensure_ascii=False))
    except (RecursionError, ValueError):
        return "[nested too deeply to show]"


def _short(text: str) -> str:
    text = " ".join(scrub(text[: MAX_WORDS * 4]).split())
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}…"
