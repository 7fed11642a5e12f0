"""What OpenAI's servers send, made from whole answers: the events of a Responses stream, the chunks of a Chat stream.

It is no model; whoever uses it says what is answered. The order of events and what each carries are those of the API's
reference. `split` cuts a text into the pieces in which it is streamed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["called", "chat_chunks", "completion", "events", "in_pieces", "response", "said", "sse"]

Map = dict[str, Any]
Split = Callable[[str], list[str]]

_STREAMED = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
    "mcp_call": ("arguments", "mcp_call_arguments"),
    "code_interpreter_call": ("code", "code_interpreter_call_code"),
}
_STEPS = {
    "mcp_call": (("in_progress",), ("completed",)),
    "code_interpreter_call": (("in_progress",), ("interpreting", "completed")),
    "web_search_call": (("in_progress", "searching"), ("completed",)),
    "file_search_call": (("in_progress", "searching"), ("completed",)),
    "image_generation_call": (("in_progress", "generating"), ("completed",)),
}
USAGE = {
    "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15,
}  # fmt: skip


def in_pieces(size: int) -> Split:
    """Pieces of so many characters."""
    return lambda text: [text[at : at + size] for at in range(0, len(text), size)]


def response(ident: str, model: str, output: list[Map], status: str = "completed", **more: Any) -> Map:
    """A whole answer."""
    return {
        "id": ident, "object": "response", "created_at": 1_735_689_600, "status": status, "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "model": model, "output": output,
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": USAGE if status in ("completed", "incomplete") else None, **more,
    }  # fmt: skip


def events(answer: Map, split: Split, **mark: Any) -> Iterator[Map]:
    """The events of an answer, numbered. `mark` is put into each, such as the stream_id of a WebSocket's lane."""
    begun = {**answer, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None, "error": None}
    told: list[Map] = [{"type": f"response.{what}", "response": begun} for what in ("created", "in_progress")]
    for index, item in enumerate(answer["output"]):
        told += _item(item, index, split)
    told.append({"type": f"response.{answer['status']}", "response": answer})
    return ({**event, "sequence_number": number, **mark} for number, event in enumerate(told))


def _item(item: Map, index: int, split: Split) -> Iterator[Map]:
    kind, at = item["type"], {"output_index": index, "item_id": item.get("id")}
    field, name = _STREAMED.get(kind, ("", ""))
    empty: dict[str, Map] = {
        "message": {"content": []},
        "reasoning": {"summary": []},
        "shell_call": {"action": {"commands": []}},
    }
    unfinished = {"status": "in_progress"} if "status" in item else {}
    yield {
        "type": "response.output_item.added",
        "output_index": index,
        "item": {**item, **unfinished, **empty.get(kind, {}), **({field: ""} if field else {})},
    }
    before, after = _STEPS.get(kind, ((), ()))
    yield from ({"type": f"response.{kind}.{step}", **at} for step in before)
    if field:
        yield from ({"type": f"response.{name}.delta", **at, "delta": piece} for piece in split(item[field]))
        yield {"type": f"response.{name}.done", **at, field: item[field]}
    elif kind == "message":
        for place, part in enumerate(item["content"]):
            yield from _part(part, {**at, "content_index": place}, split)
    elif kind == "reasoning":
        for place, part in enumerate(item["summary"]):
            yield from _summary(part, {**at, "summary_index": place}, split)
    elif kind == "shell_call":
        for place, line in enumerate(item["action"]["commands"]):
            where = {**at, "command_index": place}
            yield {"type": "response.shell_call_command.added", **where, "command": ""}
            yield from ({"type": "response.shell_call_command.delta", **where, "delta": p} for p in split(line))
            yield {"type": "response.shell_call_command.done", **where, "command": line}
    yield from ({"type": f"response.{kind}.{step}", **at} for step in after)
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part(part: Map, at: Map, split: Split) -> Iterator[Map]:
    key = "refusal" if part["type"] == "refusal" else "text"
    yield {"type": "response.content_part.added", **at, "part": {**part, key: ""}}
    more: Map = {} if key == "refusal" else {"logprobs": []}
    yield from ({"type": f"response.{part['type']}.delta", **at, "delta": piece, **more} for piece in split(part[key]))
    yield {"type": f"response.{part['type']}.done", **at, key: part[key], **more}
    yield {"type": "response.content_part.done", **at, "part": part}


def _summary(part: Map, at: Map, split: Split) -> Iterator[Map]:
    name = "response.reasoning_summary"
    yield {"type": f"{name}_part.added", **at, "part": {**part, "text": ""}}
    yield from ({"type": f"{name}_text.delta", **at, "delta": piece} for piece in split(part["text"]))
    yield {"type": f"{name}_text.done", **at, "text": part["text"]}
    yield {"type": f"{name}_part.done", **at, "part": part}


def chat_chunks(answer: Map, split: Split) -> Iterator[Map]:
    """The chunks of a Chat answer: of each choice its words, then each call's arguments, then why it ended."""
    top = {**answer, "object": "chat.completion.chunk", "choices": []}
    usage = top.pop("usage", None)

    def chunk(index: int, delta: Map, finish: str | None = None) -> Map:
        return {**top, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    for choice in answer["choices"]:
        index, message = choice["index"], choice["message"]
        yield chunk(index, {"role": "assistant", "content": None if message.get("content") is None else ""})
        for key in ("content", "refusal"):
            yield from (chunk(index, {key: piece}) for piece in split(message.get(key) or ""))
        for place, call in enumerate(message.get("tool_calls") or []):
            inner, text = ("function", "arguments") if "function" in call else ("custom", "input")
            first = {**call, "index": place, inner: {**call[inner], text: ""}}
            yield chunk(index, {"tool_calls": [first]})
            for piece in split(call[inner][text]):
                yield chunk(index, {"tool_calls": [{"index": place, inner: {text: piece}}]})
        yield chunk(index, {}, choice["finish_reason"])
    if usage is not None:
        yield {**top, "usage": usage}


def sse(told: Iterator[Map] | list[Map], *, named: bool = True, done: bool = False) -> bytes:
    """Events as a body of server-sent events; Chat's have no names and end with [DONE]."""
    out = [(f"event: {e['type']}\n" if named else "") + f"data: {json.dumps(e)}\n\n" for e in told]
    return "".join([*out, "data: [DONE]\n\n" * done]).encode()


def said(text: str, ident: str = "msg_1") -> Map:
    """An item of a Responses answer: words."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": ident, "type": "message", "role": "assistant", "status": "completed", "content": content}


def called(name: str, arguments: Map, call_id: str = "call_1") -> Map:
    """An item of a Responses answer: a call of a function."""
    return {
        "id": f"fc_{call_id}", "type": "function_call", "status": "completed", "call_id": call_id, "name": name,
        "arguments": json.dumps(arguments),
    }  # fmt: skip


def completion(ident: str, model: str, text: str, *calls: tuple[str, Map], finish: str = "") -> Map:
    """A whole answer of Chat Completions: words, and calls of functions as (name, arguments)."""
    tools = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for n, (name, arguments) in enumerate(calls, start=1)
    ]
    message = {"role": "assistant", "content": text, "refusal": None, **({"tool_calls": tools} if tools else {})}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish or ("tool_calls" if tools else "stop"),
    }
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    top = {"id": ident, "object": "chat.completion", "created": 1_735_689_600, "model": model}
    return {**top, "choices": [choice], "usage": usage}
