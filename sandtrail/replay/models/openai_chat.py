"""OpenAI Chat Completions, whole and streamed: `POST …/chat/completions`, wherever it is served.

Spec: the OpenAPI document of the OpenAI API, CreateChatCompletionRequest, CreateChatCompletionResponse and
CreateChatCompletionStreamResponse. Works on dicts, so that fields of other servers and of later versions are kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from sandtrail.replay.models.answer import (
    DONE,
    as_json,
    as_objects,
    as_text,
    event_of,
    events_of,
    once,
    read_answer,
    request_of,
    tool_call,
    whole_answer,
)
from sandtrail.replay.models.body import load_json
from sandtrail.replay.models.call import Choice, Message, ModelCall, ToolCall, scrub
from sandtrail.replay.models.deltas import Deltas
from sandtrail.replay.models.exchange import Exchange
from sandtrail.replay.models.media import media_words

__all__ = ["decode", "matches"]

MAX_CHOICES = 128
_DEPLOYMENT = re.compile(r"/deployments/([^/?#]{1,200})/chat/completions")
"""Azure names what it runs in the path."""
MAX_MESSAGES = 20_000
MAX_PARTS = 1000
MAX_CALLS = 1000


def matches(path: str, request: Any, response: bytes) -> bool:
    """Whether the path says so or, on another path, request and response both have the shape."""
    if path.rstrip("/").endswith("/chat/completions"):
        return True
    return (
        isinstance(request, dict)
        and isinstance(request.get("messages"), list)
        and (b'"chat.completion' in response or (b'"choices"' in response and b'"delta"' in response))
    )


def decode(exchange: Exchange, request: Any, response: bytes) -> ModelCall:
    """Read the call, however much of it is there. Never raises."""
    call = ModelCall(api="openai.chat")
    _read_request(call, request)
    if not call.model and (deployment := _DEPLOYMENT.search(exchange.url)):
        call.model = unquote(deployment[1])
    return read_answer(call, exchange, response, _read_stream, _read_whole)


def _read_request(call: ModelCall, request: Any) -> None:
    if (request := request_of(call, request)) is None:
        return
    call.model = as_text(request.get("model"))
    call.streamed = request.get("stream") is True
    call.messages = [_message(raw, call) for raw in as_objects(request.get("messages"), MAX_MESSAGES, call, "messages")]
    if not isinstance(request.get("messages"), list):
        call.problem("the request has no list of messages")
    tools = request.get("tools") or request.get("functions")
    for tool in tools if isinstance(tools, list) else []:
        inner = tool.get("function") or tool.get("custom") or tool if isinstance(tool, dict) else None
        if isinstance(inner, dict) and len(call.tools) < 1000:
            call.tools.append(as_text(inner.get("name") or inner.get("type")))


def _message(raw: dict[str, Any], call: ModelCall) -> Message:
    return Message(
        role=as_text(raw.get("role")),
        text=content_text(raw.get("content")) or as_text(raw.get("refusal")),
        tool_call_id=as_text(raw["tool_call_id"]) if raw.get("tool_call_id") is not None else None,
        tool_calls=_tool_calls(raw, call),
        raw=raw,
    )


def content_text(content: Any) -> str:
    """The words of a message's content, which is a string or a list of parts; other parts are named in brackets."""
    if isinstance(content, str):
        return scrub(content)
    if not isinstance(content, list):
        return "" if content is None else as_text(content)
    out = []
    for part in content[:MAX_PARTS]:
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, dict):
            text = part.get("text", part.get("refusal"))
            out.append(text if isinstance(text, str) else media_words(part, as_text(part.get("type")) or "part"))
    if len(content) > MAX_PARTS:
        out.append(f"[{len(content) - MAX_PARTS} parts left out]")
    return scrub("\n".join(out))


def _tool_calls(message: dict[str, Any], call: ModelCall) -> list[ToolCall]:
    """Tool calls of a message: functions, custom tools and the function_call of old."""
    out = []
    for raw in as_objects(message.get("tool_calls"), MAX_CALLS, call, "tool_calls"):
        ident, function, custom = as_text(raw.get("id")), raw.get("function"), raw.get("custom")
        if isinstance(function, dict):
            out.append(_tool_call(ident, function))
        elif isinstance(custom, dict):
            out.append(_tool_call(ident, custom, free=True))
        else:
            kind = as_text(raw.get("type"))[:80]
            once(call, f"a tool call of an unknown type: {kind!r}")
            out.append(tool_call(ident, kind, as_json({k: v for k, v in raw.items() if k not in ("id", "index")})))
    legacy = message.get("function_call")
    if isinstance(legacy, dict):
        out.append(_tool_call("", legacy))
    return out


def _tool_call(ident: str, inner: dict[str, Any], *, free: bool = False) -> ToolCall:
    arguments = inner.get("arguments", inner.get("input"))
    if isinstance(arguments, dict | list):  # not what the API says, but some servers do it
        return ToolCall(ident, as_text(inner.get("name")), as_text(arguments), arguments)
    text = as_text(arguments)
    return ToolCall(ident, as_text(inner.get("name")), text, load_json(text)[0] if text else None, free=free)


def _read_whole(call: ModelCall, response: bytes) -> None:
    if (answer := whole_answer(call, response)) is None:
        return
    _read_top(call, answer)
    for place, raw in enumerate(as_objects(answer.get("choices"), MAX_CHOICES, call, "choices")):
        call.choices.append(_choice(_index(raw, place), raw, raw.get("message"), call))
    call.choices.sort(key=lambda choice: choice.index)


@dataclass(slots=True)
class _Coming:
    """A choice of a stream."""

    message: Deltas = field(default_factory=Deltas)
    beside: Deltas = field(default_factory=Deltas)
    reason: str | None = None

    def take(self, raw: dict[str, Any]) -> None:
        """Its share of a chunk: the last word on why it ended stands, everything else grows."""
        if isinstance(delta := raw.get("delta"), dict):
            self.message.add(delta)
        elif not self.message and isinstance(message := raw.get("message"), dict):  # not a delta, but the whole at once
            self.message.add(message)
        elif isinstance(text := raw.get("text"), str):  # as the API before this one streamed
            self.message.add({"content": text})
        self.beside.add({k: v for k, v in raw.items() if k not in ("delta", "index", "finish_reason")})
        if (reason := raw.get("finish_reason")) is not None:
            self.reason = as_text(reason)


def _read_stream(call: ModelCall, response: bytes) -> None:
    choices: dict[int, _Coming] = {}
    done = False
    for event in events_of(call, response):
        if event.data.strip() == DONE:
            done = True
            continue
        if (chunk := event_of(call, event, "a chunk that")) is None:
            continue
        if event.event == "error" and "error" not in chunk:
            chunk = {"error": chunk}
        _read_top(call, chunk)
        raws = chunk.get("choices")
        for place, raw in enumerate(raws if isinstance(raws, list) else []):
            index = _index(raw, place) if isinstance(raw, dict) else -1
            if index not in choices and (index < 0 or len(choices) >= MAX_CHOICES):
                call.problem("a choice that is no object, or one too many")
                continue
            choices.setdefault(index, _Coming()).take(raw)
    for index, coming in sorted(choices.items()):
        message = coming.message.whole()
        if isinstance(calls := message.get("tool_calls"), list):
            calls.sort(key=lambda c: _index(c, 0) if isinstance(c, dict) else 0)
        call.choices.append(_choice(index, {**coming.beside.whole(), "finish_reason": coming.reason}, message, call))
        if coming.message.clashes:
            call.problem(f"{coming.message.clashes} tool calls under the index of another one")
        if left := coming.message.left_out + coming.beside.left_out:
            call.problem(f"{left} fields or entries of a streamed choice are left out")
    call.cut = call.error is None and not done and not call.finished


def _read_top(call: ModelCall, answer: dict[str, Any]) -> None:
    """Fields beside the choices; of those that come again the last stands."""
    call.response_id = as_text(answer.get("id")) or call.response_id
    call.response_model = as_text(answer.get("model")) or call.response_model
    if isinstance(answer.get("usage"), dict):
        call.usage = answer["usage"]
    error = answer.get("error")
    if error is not None:
        call.error = scrub(as_text(error.get("message") or error) if isinstance(error, dict) else as_text(error))[:2000]
    for key, value in answer.items():
        known = key in ("id", "model", "usage", "error", "choices", "object", "obfuscation")
        if not known and value is not None and len(call.extra) < 100:
            call.extra[scrub(key)] = value


def _choice(index: int, raw: dict[str, Any], message: Any, call: ModelCall) -> Choice:
    message = message if isinstance(message, dict) else {}
    reason = raw.get("finish_reason")
    refusal, spoken = message.get("refusal"), message.get("audio")
    thoughts = (message.get(key) for key in ("reasoning_content", "reasoning"))
    text = content_text(message.get("content"))
    return Choice(
        index=index,
        text=text or (as_text(spoken.get("transcript")) if isinstance(spoken, dict) else ""),
        reasoning=next((scrub(words) for words in thoughts if isinstance(words, str) and words), ""),
        refusal=as_text(refusal) if refusal is not None else None,
        tool_calls=_tool_calls(message, call),
        finish_reason=as_text(reason) if reason is not None else None,
        message=message,
        extra={k: v for k, v in raw.items() if k not in ("index", "message", "finish_reason") and v is not None},
    )


def _index(raw: dict[str, Any], place: int) -> int:
    index = raw.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < 1 << 31 else place
