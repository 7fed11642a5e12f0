"""A scripted server of Gemini's generateContent and streamGenerateContent (server-sent events, or one JSON array)."""

from __future__ import annotations

import json
from typing import Any

from tests.boundary.scripted import story
from tests.boundary.scripted.server import Reply

MODEL = "scripted-gemini"


def reply(path: str, request: Any) -> Reply:
    """The next turn of the story."""
    if not path.endswith((":generateContent", ":streamGenerateContent")):
        error = {"error": {"code": 404, "message": "no such path", "status": "NOT_FOUND"}}
        return Reply("application/json", json.dumps(error).encode(), 404)
    parts, reason = next_parts(request)
    if path.endswith(":generateContent"):
        return Reply("application/json", json.dumps(answer([_joined(part) for part in parts], reason)).encode())
    chunks = [answer([{**part, "text": text}], None) for part in parts if "text" in part for text in part["text"]]
    chunks += [answer([part], None) for part in parts if "text" not in part]
    chunks.append(answer([{"text": ""}], reason))
    return Reply("text/event-stream", [f"data: {json.dumps(chunk)}\r\n\r\n".encode() for chunk in chunks])


def next_parts(request: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The parts that answer this conversation, texts in pieces, and why they end."""
    said = [part for content in request["contents"] for part in content["parts"]]
    if any("functionResponse" in part for part in said):
        return [{"text": story.LAST}], "STOP"
    call = {"functionCall": {"name": story.TOOL, "args": story.ARGUMENTS}, "thoughtSignature": "c2NyaXB0ZWQ="}
    return [{"text": story.THOUGHT, "thought": True}, {"text": story.FIRST}, call], "STOP"


def answer(parts: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    """A whole answer, or a chunk of a streamed one."""
    candidate = {"content": {"role": "model", "parts": parts}, **({"finishReason": reason} if reason else {})}
    usage = {"promptTokenCount": 11, "candidatesTokenCount": 22, "totalTokenCount": 33}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": MODEL, "responseId": "resp_1"}


def _joined(part: dict[str, Any]) -> dict[str, Any]:
    return {**part, "text": "".join(part["text"])} if "text" in part else part
