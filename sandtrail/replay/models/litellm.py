"""Records of the LiteLLM proxy -> the frames that our own gateway would have written of the same call.

The one place that knows LiteLLM's record, its StandardLoggingPayload (docs.litellm.ai, "Logging payload spec"); what
reads exchanges and model calls then works on it as on any other. The bodies are made anew from what LiteLLM says that
they held: they are no bytes that ever were on a wire, and have no digest.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["FLOW", "exchange_frames", "is_call"]

FLOW: Final = "litellm"
_NS: Final = 1_000_000_000
_JSON: Final = [["Content-Type", "application/json"]]
_PATHS: Final = {"output": "/v1/responses", "candidates": "/v1beta/models/{model}:generateContent"}
_CHAT: Final = "/v1/chat/completions"
_MESSAGES: Final = "/v1/messages"
_BLOCKS: Final = frozenset({"tool_use", "tool_result", "thinking", "redacted_thinking"})
_OUR_OWN: Final = frozenset({"stream", "messages", "input", "contents", "model"})


def is_call(record: Mapping[str, Any]) -> bool:
    """Whether a JSON object is the record of a call, and not a line of LiteLLM's own log."""
    return isinstance(record.get("call_type"), str) and "startTime" in record and "messages" in record


def exchange_frames(record: Mapping[str, Any], ident: str) -> list[dict[str, Any]]:
    """Request and response of the call under this id. Never raises."""
    start, end = _ns(record.get("startTime")), _ns(record.get("endTime"))
    first = _ns(record.get("completionStartTime")) or end
    path, asked = _asked(record)
    base = record.get("api_base")
    url = (base.partition("/v1")[0].rstrip("/") if isinstance(base, str) else "litellm:") + path
    status, answered = _answered(record)
    at = {"flow": FLOW, "id": ident, "headers": _JSON}
    return [
        {"t": "request", **at, "method": "POST", "url": url, "body": _body(asked), "start_ns": start, "end_ns": start},
        {"t": "response", **at, "status": status, "body": _body(answered), "start_ns": first, "end_ns": end},
    ]


def _asked(record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Path and body of the request. Its shape is told by that of the answer, else by the type of the call."""
    response, kind = record.get("response"), str(record.get("call_type"))
    model = str(record.get("model_group") or record.get("model") or "")
    told = record.get("model_parameters")
    options = {key: value for key, value in told.items() if key not in _OUR_OWN} if isinstance(told, Mapping) else {}
    shown = record.get("messages")
    shape = response if isinstance(response, Mapping) else {}
    path = next((path for key, path in _PATHS.items() if key in shape), "")
    if not path and "choices" not in shape:
        if "responses" in kind:
            path = _PATHS["output"]
        elif shape.get("type") == "message" or "anthropic_messages" in kind:
            path = _MESSAGES
        elif "completion" not in kind:
            return f"/{kind[:100]}", {"model": model, "messages": shown, **options}
    if path == _PATHS["output"]:
        return path, {**options, "model": model, "input": shown}
    if path == _PATHS["candidates"]:
        return path.format(model=model), {**options, "contents": shown}
    messages = shown if isinstance(shown, list) else [{"role": "user", "content": shown}] if shown else []
    if path != _MESSAGES:
        messages = [one for message in messages for one in _as_chat(message)]
    return path or _CHAT, {**options, "model": model, "messages": messages}


def _as_chat(message: object) -> Iterator[object]:
    """A message in the shape of Chat Completions. What came through LiteLLM's /v1/messages has Anthropic's blocks,
    while the answer beside it is told in the other shape."""
    content = message.get("content") if isinstance(message, Mapping) else None
    blocks = [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []
    if not isinstance(message, Mapping) or not any(block.get("type") in _BLOCKS for block in blocks):
        yield message
        return
    for block in blocks:
        if block.get("type") == "tool_result":
            yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": block.get("content")}
    calls = [
        {"id": block.get("id"), "type": "function", "function": {"name": block.get("name"), "arguments": _text(block)}}
        for block in blocks
        if block.get("type") == "tool_use"
    ]
    rest = [block for block in blocks if block.get("type") not in _BLOCKS]
    if rest or calls:
        yield {**message, "content": rest, **({"tool_calls": calls} if calls else {})}


def _text(block: Mapping[str, Any]) -> str:
    try:
        return json.dumps(block.get("input"))
    except (ValueError, RecursionError):
        return ""


def _answered(record: Mapping[str, Any]) -> tuple[int, object]:
    """Status and body of the response."""
    if record.get("status") != "failure":
        return 200, record.get("response")
    told = record.get("error_information")
    why = told if isinstance(told, Mapping) else {}
    code = str(why.get("error_code") or "")
    # The code is the provider's own where it gave one; LiteLLM's word begins with the status then.
    named = code if code.isdigit() else str(why.get("normalized_error") or "").partition("_")[0]
    status = int(named) if named.isascii() and named.isdigit() and 100 <= int(named[:4]) <= 599 else 500
    words = record.get("error_str") or why.get("error_message") or "it failed, and LiteLLM does not say why"
    return status, {"error": {"message": str(words), "type": str(why.get("error_class") or ""), "code": code}}


def _body(value: object) -> str:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        text = "null"
    return base64.b64encode(text.encode("utf-8", "backslashreplace")).decode()


def _ns(seconds: object) -> int:
    """Seconds since 1970 -> nanoseconds; 0 for anything else."""
    told = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return int(seconds * _NS) if told and 0 < seconds < 1 << 33 else 0  # type: ignore[operator]
