"""Anthropic Messages, whole and streamed: `POST …/v1/messages`, also on Vertex AI (`:rawPredict`).

Spec: the OpenAPI document of the Anthropic API, CreateMessageParams, Message and MessageStreamEvent, beta fields among
them; on Vertex AI the path names the model. Token counts (`…/count_tokens`) and batches are no calls. Works on dicts,
so that fields of other servers and of later versions are kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from sandtrail.replay.models.answer import DONE, as_objects, as_text, event_of, events_of, read_answer, request_of
from sandtrail.replay.models.anthropic_blocks import answer, content_text, messages
from sandtrail.replay.models.anthropic_stream import Accumulator, error_text
from sandtrail.replay.models.body import load_json, opening
from sandtrail.replay.models.call import Message, ModelCall, scrub
from sandtrail.replay.models.exchange import Exchange

__all__ = ["decode", "matches"]

MAX_MESSAGES = 20_000
MAX_TOOLS = 1000
_OF_REQUEST = ("model", "messages", "max_tokens", "anthropic_version")
_MESSAGE = re.compile(rb'"type"\s*:\s*"message"')
_VERTEX = (":rawPredict", ":streamRawPredict")
# Of the request, what tells whose call it is and where its tools run.
_KEPT = ("metadata", "container", "thread", "context_management")


def matches(path: str, request: Any, response: bytes) -> bool:
    """Whether path and request say so or, on another path, request and response both have the shape."""
    path = unquote(path).rstrip("/")
    asked = not isinstance(request, dict) or any(name in request for name in _OF_REQUEST)
    if path.endswith("/v1/messages"):
        return asked
    if path.endswith(_VERTEX):
        ours = "/publishers/anthropic/models/" in path and "/count-tokens:" not in path
        return ours or (isinstance(request, dict) and "anthropic_version" in request and "messages" in request)
    if not isinstance(request, dict) or not isinstance(request.get("messages"), list):
        return False
    # Other APIs answer with a "stop_reason" too, but not with a thing of the type "message" beside it.
    begins = b'"message_start"' in response[:100_000]
    return begins or (b'"stop_reason"' in response and b'"choices"' not in response and bool(_MESSAGE.search(response)))


def decode(exchange: Exchange, request: Any, response: bytes) -> ModelCall:
    """Read the call, however much of it is there. Never raises."""
    call = ModelCall(api="anthropic.messages")
    _read_request(call, request)
    place = unquote(exchange.url.partition("?")[0])
    if not call.model and place.endswith(_VERTEX):
        call.model = scrub(place.rpartition("/")[2].rpartition(":")[0])
    return read_answer(call, exchange, response, _read_stream, _read_whole)


def _read_request(call: ModelCall, request: Any) -> None:
    if (request := request_of(call, request)) is None:
        return
    call.model = as_text(request.get("model"))
    call.streamed = request.get("stream") is True
    system = request.get("system")
    if system:
        call.messages.append(Message("system", content_text(system, call), raw={"role": "system", "content": system}))
    for raw in as_objects(request.get("messages"), MAX_MESSAGES, call, "messages"):
        call.messages += messages(raw, call)
    if not isinstance(request.get("messages"), list):
        call.problem("the request has no list of messages")
    for tool in as_objects(request.get("tools"), MAX_TOOLS, call, "tools"):
        call.tools.append(as_text(tool.get("name") or tool.get("mcp_server_name") or tool.get("type")))
    call.extra |= {name: request[name] for name in _KEPT if request.get(name) is not None}
    servers = as_objects(request.get("mcp_servers"), MAX_TOOLS, call, "mcp_servers")
    if servers:  # without what they are given to let us in
        call.extra["mcp_servers"] = [{"name": server.get("name"), "url": server.get("url")} for server in servers]
    if isinstance(thread := request.get("thread"), dict):
        call.previous = as_text(thread.get("previous_message_id"))


def _read_whole(call: ModelCall, response: bytes) -> None:
    message, trouble = load_json(response)
    if isinstance(message, list) and len(message) == 1:  # how Vertex AI writes an error
        message = message[0]
    if not isinstance(message, dict):
        call.problem(f"the answer is not a JSON object{f': {trouble}' if trouble else ''}")
        call.cut = opening(response)[:1] in (b"{", b"[")
        return
    if message.get("type") == "error" or (message.get("error") is not None and "content" not in message):
        call.error = error_text(message.get("error"))
        if message.get("request_id") is not None:
            call.extra["request_id"] = message["request_id"]
    elif "content" in message or message.get("type") == "message":
        _read_message(call, message)
    elif isinstance(message.get("message"), str):  # an error as Bedrock and gateways write it
        call.error = error_text(message)
    elif message:
        call.problem("the answer is no message")
        call.extra["answer"] = message


def _read_stream(call: ModelCall, response: bytes) -> None:
    accumulator = Accumulator(call)
    for event in events_of(call, response):
        if event.data.strip() == DONE:  # some gateways end every stream so
            continue
        if (found := event_of(call, event, "an event")) is not None:
            accumulator.feed(found, event.event)
    message = accumulator.message()
    if message is not None:
        _read_message(call, message, accumulator.written())
    call.cut = call.error is None and not accumulator.done and not call.finished


def _read_message(call: ModelCall, message: dict[str, Any], written: Sequence[str] = ()) -> None:
    call.response_id = as_text(message.get("id"))
    call.response_model = as_text(message.get("model"))
    if isinstance(message.get("usage"), dict):
        call.usage = message["usage"]
    call.choices.append(answer(0, message, call, written))
    known = {"id", "model", "usage", "type", "role", "content", "stop_reason", "stop_sequence", "stop_details"}
    for key, value in message.items():
        if key not in known and value is not None and len(call.extra) < 100:
            call.extra[scrub(key)] = value
