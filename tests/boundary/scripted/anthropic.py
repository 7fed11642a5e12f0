"""A scripted server of Anthropic Messages, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

from tests.boundary.scripted import story
from tests.boundary.scripted.server import Reply

MODEL = "scripted-anthropic"


def reply(path: str, request: Any) -> Reply:
    """The next turn of the story."""
    if path != "/v1/messages":
        return Reply(
            "application/json", b'{"type":"error","error":{"type":"not_found_error","message":"no such path"}}', 404
        )
    message = next_message(request)
    if not request.get("stream"):
        return Reply("application/json", json.dumps(message).encode())
    return Reply(
        "text/event-stream", [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events(message)]
    )


def next_message(request: dict[str, Any]) -> dict[str, Any]:
    """The message that answers this conversation."""
    blocks = [block for m in request["messages"] if isinstance(m["content"], list) for block in m["content"]]
    if any(block["type"] == "tool_result" for block in blocks):
        content: list[dict[str, Any]] = [{"type": "text", "text": "".join(story.LAST)}]
    else:
        content = [
            {"type": "thinking", "thinking": "".join(story.THOUGHT), "signature": "c2NyaXB0ZWQ="},
            {"type": "text", "text": "".join(story.FIRST)},
            {"type": "tool_use", "id": story.CALL_ID, "name": story.TOOL, "input": story.ARGUMENTS},
        ]
    return {
        "id": f"msg_{len(blocks)}",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
        "stop_reason": "end_turn" if len(content) == 1 else "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 22},
    }


def events(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The message as the events of a stream."""
    usage = {**message["usage"], "output_tokens": 1}
    out: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": usage}},
        {"type": "ping"},
    ]
    for index, block in enumerate(message["content"]):
        empty, deltas = _deltas(block)
        out.append({"type": "content_block_start", "index": index, "content_block": empty})
        out += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        out.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    out.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": message["usage"]["output_tokens"]}})
    return [*out, {"type": "message_stop"}]


def _deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": t} for t in story.pieces(block["text"])]
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": t} for t in story.pieces(block["thinking"])]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*deltas, signed]
    deltas = [{"type": "input_json_delta", "partial_json": t} for t in ["", *story.arguments()]]
    return {**block, "input": {}}, deltas
