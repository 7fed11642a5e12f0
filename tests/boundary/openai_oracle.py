"""OpenAI's own client as the judge of what we read: every field of both APIs that a timeline tells."""

from __future__ import annotations

from typing import Any

from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.chat import ChatCompletion
from openai.types.responses import Response, ResponseStreamEvent

from sandtrail.replay.models import ModelCall

__all__ = ["as_completion", "as_response", "compare_chat", "compare_response", "final_response"]


def as_response(raw: Any) -> Response:
    """A whole answer as the client makes it, which checks nothing."""
    found = construct_type(type_=Response, value=raw)
    assert isinstance(found, Response)
    return found


def as_completion(raw: Any) -> ChatCompletion:
    """A whole answer of Chat, likewise."""
    found = construct_type(type_=ChatCompletion, value=raw)
    assert isinstance(found, ChatCompletion)
    return found


def final_response(told: list[dict[str, Any]]) -> Response:
    """What the client's own state makes of the events: the parsed answer, or what the last event says."""
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    for raw in told:
        event: Any = construct_type(type_=ResponseStreamEvent, value=raw)
        state.handle_event(event)
    found: Any = state._completed_response or event.response
    assert isinstance(found, Response)
    return found


def compare_response(call: ModelCall, expected: Response) -> None:
    """Ours against theirs, field by field and item by item."""
    assert call.api == "openai.responses"
    assert call.response_id == expected.id
    assert call.response_model == expected.model
    assert call.conversation == (expected.conversation.id if expected.conversation else "")
    assert call.previous == (expected.previous_response_id or "")
    assert call.usage == (expected.usage.to_dict() if expected.usage else None)
    assert call.error == (expected.error.message if expected.error else None)
    (choice,) = call.choices
    assert bare(choice.message["items"]) == bare([item.to_dict() for item in expected.output])
    said = [item for item in expected.output if item.type == "message"]
    joined = ["".join(p.text for p in item.content if p.type == "output_text") for item in said]
    # Theirs runs the messages together; ours keeps them apart.
    assert call.text == "\n".join(filter(None, joined))
    assert "".join(joined) == expected.output_text
    refusals = ["".join(p.refusal for p in item.content if p.type == "refusal") for item in said]
    assert (call.refusal or "") == "\n".join(filter(None, refusals))
    thoughts = [p.text for item in expected.output if item.type == "reasoning" for p in item.summary]
    assert call.reasoning == "\n".join(filter(None, thoughts))
    functions = [(t.call_id, t.name, t.arguments) for t in expected.output if t.type == "function_call"]
    customs = [(t.call_id, t.name, t.input) for t in expected.output if t.type == "custom_tool_call"]
    ours = {t.id: (t.id, t.name, t.arguments) for t in call.tool_calls if not t.server}
    assert [ours[found[0]] for found in functions + customs] == functions + customs
    assert len(call.tool_calls) == sum(item.type.endswith("_call") for item in expected.output)
    reason = expected.incomplete_details.reason if expected.incomplete_details else None
    assert call.finish_reason == (reason or expected.status)


def compare_chat(call: ModelCall, expected: ChatCompletion) -> None:
    """Ours against theirs, for each choice."""
    assert call.api == "openai.chat"
    assert call.response_id == expected.id
    assert call.response_model == expected.model
    assert call.usage == (expected.usage.to_dict() if expected.usage else None)
    assert len(call.choices) == len(expected.choices)
    for ours, theirs in zip(call.choices, expected.choices, strict=True):
        assert (ours.index, ours.finish_reason) == (theirs.index, theirs.finish_reason)
        assert (ours.text, ours.refusal or "") == (theirs.message.content or "", theirs.message.refusal or "")
        assert bare(ours.message) == bare(theirs.message.to_dict())
        assert bare(ours.extra.get("logprobs") or {}) == bare(theirs.logprobs.to_dict() if theirs.logprobs else {})
        wanted = [
            (t.id, t.function.name, t.function.arguments)
            if t.type == "function"
            else (t.id, t.custom.name, t.custom.input)
            for t in theirs.message.tool_calls or []
        ]
        assert [(t.id, t.name, t.arguments) for t in ours.tool_calls if t.id] == wanted
        legacy = theirs.message.function_call
        assert [(t.name, t.arguments) for t in ours.tool_calls if not t.id] == (
            [(legacy.name, legacy.arguments)] if legacy else []
        )


def bare(value: Any) -> Any:
    """Without what is null, empty or the client's own: those the stream's accumulators and the API fill differently."""
    if isinstance(value, dict):
        own = ("parsed", "parsed_arguments", "annotations") if "role" in value else ("parsed", "parsed_arguments")
        return {k: bare(v) for k, v in value.items() if v is not None and k not in own}
    return [bare(v) for v in value] if isinstance(value, list) else value
