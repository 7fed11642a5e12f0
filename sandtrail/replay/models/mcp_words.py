"""Parts of MCP messages in words, for people."""

from __future__ import annotations

from typing import Any

from sandtrail.replay.models.call import scrub
from sandtrail.replay.models.media import media_words

__all__ = ["NAMED_BY", "content_words", "error_words", "name_of"]

NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri", "resources/subscribe": "uri"}
"""Which parameter says what a request is about; of the first three, the header `Mcp-Name` repeats it."""
MAX_PARTS = 200
MAX_WORDS = 200_000


def name_of(method: str, params: dict[str, Any]) -> str:
    """What a request is about: the tool, the prompt, the resource; empty where it is about none."""
    value = params.get(NAMED_BY.get(method, ""))
    return scrub(value)[:500] if isinstance(value, str) else ""


def content_words(said: Any) -> str:
    """The words of a result, of a prompt's messages, or of what a server wants to ask a model."""
    if not isinstance(said, dict):
        return ""
    parts: list[Any] = []
    for key in ("systemPrompt", "message"):
        if isinstance(said.get(key), str):
            parts.append({"type": "text", "text": said[key]})
    messages = said.get("messages")
    for message in messages[:MAX_PARTS] if isinstance(messages, list) else []:
        if isinstance(message, dict):
            parts += _listed(message.get("content"))
    parts += _listed(said.get("content")) + _listed(said.get("contents"))
    return "\n".join(filter(None, map(_part, parts[:MAX_PARTS])))[:MAX_WORDS]


def _listed(content: Any) -> list[Any]:
    return content[:MAX_PARTS] if isinstance(content, list) else [] if content is None else [content]


def _part(part: Any) -> str:
    if isinstance(part, str):
        return scrub(part[:MAX_WORDS])
    if not isinstance(part, dict):
        return ""
    inner = part.get("resource")
    held = inner if isinstance(inner, dict) else part
    if isinstance(held.get("text"), str):
        return scrub(held["text"][:MAX_WORDS])
    kind = part.get("type")
    return media_words(part, kind if isinstance(kind, str) and kind else "part")


def error_words(error: Any) -> tuple[str, int | None]:
    """A JSON-RPC error's message and code."""
    if not isinstance(error, dict):
        return scrub(str(error)[:2000]), None
    code, message = error.get("code"), error.get("message")
    number = code if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 1 << 31 else None
    words = message if isinstance(message, str) else str(message if message is not None else "no message")[:2000]
    return scrub(words)[:2000], number
