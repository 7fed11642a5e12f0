"""Requests and answers of Bedrock's Converse; models that InvokeModel serves may take the same shape.

Spec: the Bedrock Runtime API, Converse and ConverseStream. Works on dicts, so that fields of later versions are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sandtrail.replay.models.answer import as_objects, as_text, request_of, whole_answer
from sandtrail.replay.models.bedrock_blocks import answer, messages, words
from sandtrail.replay.models.bedrock_stream import Accumulator
from sandtrail.replay.models.call import Message, ModelCall, scrub

__all__ = ["read_answer", "read_request", "read_stream", "read_whole"]

MAX_MESSAGES = 20_000
MAX_TOOLS = 1000


def read_request(call: ModelCall, request: Any) -> None:
    """Read a request of Converse, or of a model that takes the same shape."""
    if (request := request_of(call, request)) is None:
        return
    system = request.get("system")
    if system:
        blocks = as_objects(system, MAX_MESSAGES, call, "system")
        text = "\n".join(words(block, call) for block in blocks if "cachePoint" not in block)
        call.messages.append(
            Message("system", scrub(text) or as_text(system), raw={"role": "system", "content": system})
        )
    for raw in as_objects(request.get("messages"), MAX_MESSAGES, call, "messages"):
        call.messages += messages(raw, call)
    if not isinstance(request.get("messages"), list):
        call.problem("the request has no list of messages")
    config = request.get("toolConfig")
    for tool in as_objects(config.get("tools") if isinstance(config, dict) else None, MAX_TOOLS, call, "tools"):
        for kind, inner in tool.items():
            if kind != "cachePoint":
                call.tools.append(as_text(inner.get("name") if isinstance(inner, dict) else None) or scrub(kind))
    for name in ("requestMetadata", "promptVariables", "guardrailConfig"):
        if request.get(name) is not None:
            call.extra[name] = request[name]


def read_whole(call: ModelCall, response: bytes) -> None:
    """Read the body of a whole answer."""
    if (found := whole_answer(call, response)) is None:
        return
    read_answer(call, found)


def read_answer(call: ModelCall, found: dict[str, Any]) -> None:
    """Read a whole answer of Converse, or of a model that answers in the same shape."""
    output = found.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    if isinstance(message, dict):
        call.choices.append(answer(0, message, found.get("stopReason"), call))
    elif isinstance(said := found.get("message", found.get("Message")), str):
        call.error = scrub(said)[:2000]
        return
    if isinstance(found.get("usage"), dict):
        call.usage = found["usage"]
    for key, value in found.items():
        if key not in ("output", "stopReason", "usage") and value is not None and len(call.extra) < 100:
            call.extra[scrub(key)] = value


def read_stream(call: ModelCall, events: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Read a streamed answer: its events, each with its kind."""
    accumulator = Accumulator(call)
    for kind, event in events:
        accumulator.feed(kind, event)
    message = accumulator.message()
    if message is not None:
        call.choices.append(answer(0, message, accumulator.reason, call, accumulator.written()))
    call.cut = call.error is None and not accumulator.done and not call.finished
