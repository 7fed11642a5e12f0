"""OpenAI's Responses API, whole and streamed: `POST …/responses`, wherever it is served, and its WebSocket's calls.

Spec: the OpenAPI document of the OpenAI API, CreateResponse, Response, ResponseStreamEvent; CompactResponse likewise. A
call over a WebSocket comes as an exchange of its own, whose request is the client's message (a list where the client
steered the response), and whose body is the server's messages as a stream of events.
"""

from __future__ import annotations

import re
from typing import Any

from sandtrail.replay.models import openai_items as items
from sandtrail.replay.models.answer import (
    DONE,
    as_objects,
    as_text,
    event_of,
    events_of,
    flowing,
    once,
    read_answer,
    request_of,
    whole_answer,
)
from sandtrail.replay.models.call import Choice, Message, ModelCall, scrub
from sandtrail.replay.models.exchange import Exchange
from sandtrail.replay.models.openai_events import Events
from sandtrail.replay.models.websocket import ASKS

__all__ = ["decode", "fetched", "fetches", "matches"]

MAX_ITEMS = 20_000
_PATHS = ("/responses", "/responses/compact")
_KEPT = re.compile(r"/responses/[^/]+/?$")
_ANSWERS = re.compile(rb'"object"\s*:\s*"response[".]|"type"\s*:\s*"response\.created"')
_UNFINISHED = ("queued", "in_progress", "")


def matches(path: str, request: Any, response: bytes) -> bool:
    """Whether the path says so and the request does not deny it or, on another path, both have the shape."""
    asks = isinstance(request, dict | list) and any(key in _first(request) for key in ASKS)
    answers = _ANSWERS.search(response[:100_000]) is not None
    return (asks or answers or request is None) if path.rstrip("/").endswith(_PATHS) else (asks and answers)


def decode(exchange: Exchange, request: Any, response: bytes) -> ModelCall:
    """Read the call, however much of it is there. Never raises."""
    call = ModelCall(api="openai.responses")
    _read_request(call, request)
    return read_answer(call, exchange, response, _read_stream, _read_whole)


def fetches(path: str) -> bool:
    """Whether a GET on this path asks for an answer that the provider keeps."""
    return _KEPT.search(path) is not None


def fetched(exchange: Exchange, response: bytes) -> ModelCall | None:
    """The answer to a call that was made to run in the background, which a client fetches later.

    None where it is not there yet, and where it was given to the client before: only a call in the background has none.
    """
    call = ModelCall(api="openai.responses")
    read_answer(call, exchange, response, _read_stream, _read_whole)
    if call.extra.get("background") is not True or not (call.finished or call.streamed):
        return None
    # It goes on from the exchange that was told no more than this id.
    call.previous = call.response_id
    return call


def _first(request: Any) -> dict[str, Any]:
    """The request, or the last of a WebSocket's messages that make it up: those before it only steer."""
    found = request[-1] if isinstance(request, list) and request else request
    return found if isinstance(found, dict) else {}


def _read_request(call: ModelCall, request: Any) -> None:
    if not isinstance(request, list) and request_of(call, request) is None:
        return
    asked = _first(request)
    call.model = as_text(asked.get("model"))
    call.streamed = asked.get("stream") is True or asked.get("type") in ("response.create", "response.steer")
    call.conversation = _conversation(asked)
    call.previous = as_text(asked.get("previous_response_id"))
    call.tools = items.tool_names(asked.get("tools"))
    if asked.get("generate") is False:
        call.extra["generate"] = False
    if asked.get("instructions") is not None:
        call.messages.append(
            Message("system", _instructions(asked["instructions"]), raw={"instructions": asked["instructions"]})
        )
    if isinstance(prompt := asked.get("prompt"), dict):
        call.messages.append(Message("system", f"[prompt {as_text(prompt.get('id'))}]", raw=prompt))
    given: list[dict[str, Any]] = []
    for message in request if isinstance(request, list) else [request]:
        if isinstance(message, dict):
            given += _input(call, message.get("input"))
    call.messages += items.messages(
        given, lambda kind: once(call, f"an item of unknown type {kind[:80]!r} in the input")
    )
    for item in given:
        if items.kind_of(item) == "additional_tools":
            call.tools += items.tool_names(item.get("tools"))


def _conversation(value: dict[str, Any]) -> str:
    found = value.get("conversation")
    return as_text(found.get("id")) if isinstance(found, dict) else as_text(found)


def _instructions(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(m.text for m in items.messages([i for i in value if isinstance(i, dict)], lambda _: None))
    return as_text(value)


def _input(call: ModelCall, value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if value is not None and not isinstance(value, list):
        call.problem("the input is neither a text nor a list of items")
    return as_objects(value, MAX_ITEMS, call, "input")


def _read_whole(call: ModelCall, response: bytes) -> None:
    if (answer := whole_answer(call, response)) is None:
        return
    _error(call, answer.get("error"))
    if isinstance(answer.get("output"), list) or "status" in answer:
        _read_response(call, answer, as_objects(answer.get("output"), MAX_ITEMS, call, "output"))


def _read_stream(call: ModelCall, response: bytes) -> None:
    events = Events(call)
    for event in events_of(call, response):
        if event.data.strip() == DONE or (found := event_of(call, event, "an event that")) is None:
            continue
        if events.ended:
            once(call, f"{as_text(found.get('type'))[:80]} after the answer's end")
        # Some servers name the type in the stream's own field alone.
        events.take(found if "type" in found or not event.event else {**found, "type": event.event})
    _error(call, events.response.get("error"))
    _error(call, events.error)
    output = events.output()
    if events.response or output:
        _read_response(call, events.response, output)
    if events.spoken:
        call.extra["transcript"] = scrub("".join(events.spoken))
    call.cut = call.error is None and not call.finished


def _error(call: ModelCall, error: Any) -> None:
    if error is not None and call.error is None:
        said = (error.get("message") or error.get("code") or error) if isinstance(error, dict) else error
        call.error = scrub(as_text(said))[:2000]


def _read_response(call: ModelCall, response: dict[str, Any], output: list[dict[str, Any]]) -> None:
    call.response_id = as_text(response.get("id"))
    call.response_model = as_text(response.get("model"))
    call.conversation = call.conversation or _conversation(response)
    call.previous = call.previous or as_text(response.get("previous_response_id"))
    if isinstance(response.get("usage"), dict):
        call.usage = response["usage"]
    for key, value in response.items():
        if key not in _SHOWN and value is not None and len(call.extra) < 100:
            call.extra[scrub(key)] = value
    choice = Choice(0, message={"role": "assistant", "items": output}, finish_reason=_ended(response))
    for item in output:
        for kind in items.unknown_parts(item):
            once(call, f"a part of unknown type {kind[:80]!r} in the output")
        if not items.is_known(item):
            once(call, f"an item of unknown type {items.kind_of(item)[:80]!r} in the output")
        if (tool := items.tool_call(item)) is not None:
            choice.tool_calls.append(tool)
    said = [item for item in output if items.kind_of(item) == "message"]
    choice.text = flowing(piece for item in said for piece in (items.words(item), None))
    choice.reasoning = "\n".join(filter(None, map(items.reasoning, filter(_thinks, output))))
    choice.refusal = "\n".join(filter(None, map(items.refusal, said))) or None
    choice.results = items.results(output)
    call.choices.append(choice)


_SHOWN = frozenset(
    {
        "id",
        "object",
        "model",
        "usage",
        "error",
        "output",
        "instructions",
        "conversation",
        "previous_response_id",
        "tools",
    }
)
"""What has a field of its own in a call, or repeats the request."""


def _thinks(item: dict[str, Any]) -> bool:
    return items.kind_of(item) == "reasoning"


def _ended(response: dict[str, Any]) -> str | None:
    """Why the answer ended: its status or, where it is incomplete, the reason for that."""
    status = as_text(response.get("status"))
    details = response.get("incomplete_details")
    reason = as_text(details.get("reason")) if isinstance(details, dict) else ""
    if status == "incomplete" and reason:
        return reason
    if not status and response.get("object") == "response.compaction":
        return "completed"
    return None if status in _UNFINISHED else status
