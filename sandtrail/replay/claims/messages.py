"""Messages of a conversation as instrumentations write them: lists or JSON, with parts or without."""

from __future__ import annotations

import json
from typing import Any, Final

from sandtrail.replay.claims.item import Message
from sandtrail.replay.decode.text import as_text, fit
from sandtrail.replay.models.body import load_json

__all__ = ["MAX_MESSAGES", "as_message", "as_messages", "words"]

MAX_MESSAGES: Final = 20
"""The last of a conversation; the evidence has all."""
_MAX: Final = 64 << 10


def words(value: Any) -> str:
    """A value as text: itself, or JSON."""
    if isinstance(value, str):
        return as_text(value, _MAX)
    if value is None:
        return ""
    return json.dumps(fit(value, _MAX), ensure_ascii=False, separators=(",", ":"))


def as_messages(value: Any, role: str = "") -> list[Message]:
    """Messages out of a list, a single one, or JSON of either; what is neither is one message's text. `role` is whose
    they are where they do not say."""
    if isinstance(value, str):
        found, trouble = load_json(value) if value.lstrip()[:1] in ("[", "{") else (None, "plain text")
        if trouble or not isinstance(found, list | dict):
            return [{"role": role, "text": as_text(value, _MAX)}] if value else []
        value = found
    if isinstance(value, dict):
        value = value["messages"] if isinstance(value.get("messages"), list) else [value]
    if not isinstance(value, list):
        return []
    if value and all(
        isinstance(one, dict) and "type" in one and "parts" not in one and "role" not in one for one in value
    ):
        return [
            as_message({"role": role, "parts": value}, role)
        ]  # the parts of one message, as system instructions are
    return [as_message(one, role) for one in value[-200:]]


def as_message(told: Any, role: str = "") -> Message:
    """One message, with its parts or its content put together."""
    if not isinstance(told, dict):
        return {"role": role, "text": words(told)}
    inner = told.get("message")
    if isinstance(inner, dict):  # a choice
        told = {**inner, "finish_reason": told.get("finish_reason")}
    message: Message = {"role": as_text(told.get("role"), 100) or role, "text": ""}
    if reason := as_text(told.get("finish_reason"), 100):
        message["finish_reason"] = reason
    if ident := as_text(told.get("tool_call_id") or (role == "tool" and told.get("id")) or None, 200):
        message["tool_call_id"] = ident
    content = told.get("parts", told.get("content"))
    texts = [words(content)] if isinstance(content, str) else []
    for part in content[:200] if isinstance(content, list) else [content] if isinstance(content, dict) else []:
        _part(message, part, texts)
    calls = told.get("tool_calls")
    for call in calls[:100] if isinstance(calls, list) else []:
        if isinstance(call, dict):
            message.setdefault("tool_calls", []).append(_call(call))
    message["text"] = "\n".join(text for text in texts if text)
    return message


def _part(message: Message, part: Any, texts: list[str]) -> None:
    if not isinstance(part, dict):
        texts.append(words(part))
        return
    kind = part.get("type")
    if kind in ("tool_call", "tool_use", "function_call"):
        message.setdefault("tool_calls", []).append(_call(part))
    elif kind in ("tool_call_response", "tool_result"):
        message["tool_call_id"] = as_text(part.get("id") or part.get("tool_use_id"), 200)
        said = next((part[name] for name in ("response", "result", "content") if part.get(name) is not None), None)
        texts.append(words(said))
    elif isinstance(part.get("content"), str):
        texts.append(words(part["content"]))
    else:
        texts.append(words(part["text"] if isinstance(part.get("text"), str) else part))


def _call(call: dict[str, Any]) -> dict[str, str]:
    named = call.get("function")
    inner = named if isinstance(named, dict) else call
    arguments = next((inner[name] for name in ("arguments", "input", "args") if inner.get(name) is not None), "")
    return {"id": as_text(call.get("id"), 200), "name": as_text(inner.get("name"), 200), "arguments": words(arguments)}
