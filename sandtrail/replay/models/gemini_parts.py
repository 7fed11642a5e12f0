"""Contents and parts of Gemini's API, as they stand in requests and in answers.

Spec: google.ai.generativelanguage and google.cloud.aiplatform, Content and Part. The API reads JSON of protocol
buffers, so a client may write each name in camelCase or in snake_case.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

from sandtrail.replay.models.answer import as_json, as_objects, as_text, flowing, once, runs, tool_call
from sandtrail.replay.models.call import Choice, Message, ModelCall, ToolCall, scrub
from sandtrail.replay.models.media import media_words

__all__ = ["MAX_PARTS", "answer", "get", "messages", "system_text"]

MAX_PARTS = 200_000
_RESULTS = ("functionResponse", "codeExecutionResult", "toolResponse")
_KNOWN = frozenset(
    {
        *_RESULTS,
        *("text", "functionCall", "executableCode", "toolCall", "inlineData", "fileData", "thought"),
        *("thoughtSignature", "videoMetadata", "partMetadata", "mediaResolution", "mediaProcessing"),
        *("audioTranscription", "speechMetadata", "documentMetadata", "spreadsheetMetadata", "audioMetadata"),
    }
)


@cache
def _snake(name: str) -> str:
    return re.sub("([A-Z])", lambda match: f"_{match[1].lower()}", name)


def get(value: dict[str, Any], name: str) -> Any:
    """A field by its camelCase name, however it is written; None where it is absent."""
    return value[name] if name in value else value.get(_snake(name))


class _Idents:
    """Ids of the calls or results of one content: their own, or else the name; the second of a name is `name#2`."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def of(self, ident: Any, name: str) -> str:
        if ident:
            return as_text(ident)
        self._seen[name] += 1
        return name if self._seen[name] == 1 else f"{name}#{self._seen[name]}"


def messages(raw: dict[str, Any], call: ModelCall) -> list[Message]:
    """The messages that one content of a request is: each result of a tool is one of its own."""
    role = as_text(raw.get("role")) or "user"
    parts = as_objects(raw.get("parts"), MAX_PARTS, call, "parts")
    if role == "model":
        said = answer(0, raw, {}, call)
        return [Message("assistant", said.text, tool_calls=said.tool_calls, raw=raw), *said.results]
    out, idents, rest = [], _Idents(), raw
    for run in runs(parts, _is_result):
        if _is_result(run[0]):
            out.append(_result(run[0], idents))
        else:
            calls = _tool_calls(run)
            text = scrub("\n".join(_words(part, call) for part in run))
            out.append(Message(role, text, tool_calls=calls, raw={**rest, "parts": run}))
            rest = {"role": role}  # what stands beside is kept once
    return out or [Message(role, "", raw=raw)]


def system_text(value: Any, call: ModelCall) -> str:
    """The words of a system instruction: a content, or a string where a gateway takes one."""
    if not isinstance(value, dict):
        return as_text(value)
    parts = value.get("parts")
    found = as_objects([parts] if isinstance(parts, dict) else parts, MAX_PARTS, call, "parts")
    return scrub("\n".join(_words(part, call) for part in found))


def answer(index: int, content: dict[str, Any], candidate: dict[str, Any], call: ModelCall) -> Choice:
    """What a candidate says; `content` is kept with every part, `candidate` holds the fields beside it."""
    parts = as_objects(content.get("parts"), MAX_PARTS, call, "parts")
    for part in parts:
        _name_unknown(part, call)
    idents = _Idents()
    reason = get(candidate, "finishReason")
    thoughts = [part for part in parts if part.get("thought") is True]
    return Choice(
        index=index,
        text=flowing(_said(part) for part in parts),
        reasoning=scrub("".join(as_text(part.get("text")) for part in thoughts)),
        tool_calls=_tool_calls(parts),
        results=[_result(part, idents) for part in parts if _is_result(part)],
        finish_reason=as_text(reason) if reason is not None else None,
        message=content,
        extra={k: v for k, v in candidate.items() if k not in ("content", "index", "finishReason") and v is not None},
    )


def _said(part: dict[str, Any]) -> str | None:
    if part.get("thought") is True or not isinstance(part.get("text"), str):
        return None
    return as_text(part["text"])


def _tool_calls(parts: list[dict[str, Any]]) -> list[ToolCall]:
    out, idents = [], _Idents()
    for part in parts:
        if isinstance(asked := get(part, "functionCall"), dict):
            name, arguments = as_text(asked.get("name")), asked.get("args")
            out.append(tool_call(idents.of(asked.get("id"), name), name, {} if arguments is None else arguments))
        elif isinstance(code := get(part, "executableCode"), dict):
            out.append(tool_call(idents.of(code.get("id"), "code_execution"), "code_execution", code, server=True))
        elif isinstance(asked := get(part, "toolCall"), dict):
            name = as_text(get(asked, "toolType"))
            out.append(tool_call(idents.of(asked.get("id"), name), name, asked.get("args"), server=True))
    return out


def _is_result(part: dict[str, Any]) -> bool:
    return any(isinstance(get(part, name), dict) for name in _RESULTS)


def _result(part: dict[str, Any], idents: _Idents) -> Message:
    if isinstance(code := get(part, "codeExecutionResult"), dict):
        failed = as_text(code.get("outcome")) != "OUTCOME_OK"
        ident = idents.of(code.get("id"), "code_execution")
        return Message("tool", as_text(code.get("output")), ident, failed, raw=part)
    found = get(part, "functionResponse")
    given = found if isinstance(found, dict) else get(part, "toolResponse")
    response = given.get("response")
    error = True if isinstance(response, dict) and response.get("error") is not None else None
    name = as_text(given.get("name")) or as_text(get(given, "toolType"))
    media = _objects(given.get("parts"))
    text = "\n".join(filter(None, [_output(response), *map(_media, media)]))
    return Message("tool", text, idents.of(given.get("id"), name), error, raw=part)


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list, if it is one."""
    return [entry for entry in value[:1000] if isinstance(entry, dict)] if isinstance(value, list) else []


def _output(response: Any) -> str:
    """A function's response; where it is nothing but one text under a customary name, that text."""
    if isinstance(response, dict) and len(response) == 1:
        (key, value) = next(iter(response.items()))
        if key in ("output", "result", "error", "content") and isinstance(value, str):
            return as_text(value)
    return as_json(response)


def _words(part: dict[str, Any], call: ModelCall) -> str:
    """A part as the model was shown it, as far as it is text; others are named in brackets."""
    _name_unknown(part, call)
    text = part.get("text")
    return as_text(text) if isinstance(text, str) else _media(part)


def _media(part: dict[str, Any]) -> str:
    for name in ("inlineData", "fileData"):
        if isinstance(data := get(part, name), dict):
            return media_words(data)
    return f"[{as_text(next(iter(part), 'part'))[:80]}]"


def _name_unknown(part: dict[str, Any], call: ModelCall) -> None:
    for name in part:
        if name not in _KNOWN and name not in _KNOWN_SNAKE:
            once(call, f"a part of an unknown kind: {as_text(name)[:80]!r}")


_KNOWN_SNAKE = frozenset(_snake(name) for name in _KNOWN)
