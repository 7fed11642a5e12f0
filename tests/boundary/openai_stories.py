"""Conversations that the openai package leads with a scripted server: by each of its ways to ask, with tools.

A story asks, runs what it is told to, hands the result back and ends when no tool is asked for. It returns the answers
as the client made them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openai import OpenAI

from tests.boundary.scripted.openai import Map, called, completion, response, said

__all__ = ["ANSWERS", "STORIES", "TASK"]

TASK = "Which files are there?"
RESULT = "exit code: 0\na.txt\n"
_FUNCTION = {"name": "run", "parameters": {"type": "object", "properties": {"command": {"type": "string"}}}}
_TOOL: Any = {"type": "function", **_FUNCTION, "strict": False}
_CHAT_TOOL: Any = {"type": "function", "function": _FUNCTION}
_THOUGHT = {
    "id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "A tool will tell."}],
    "encrypted_content": "gAAAAABexample",
}  # fmt: skip
_SEARCH = {
    "id": "ws_1", "type": "web_search_call", "status": "completed",
    "action": {"type": "search", "query": "list files", "queries": ["list files"]},
}  # fmt: skip


def _responses(prefix: str) -> list[Map]:
    first: list[Map] = [_THOUGHT, _SEARCH, said("I look — ö."), called("run", {"command": "ls"})]
    return [
        response(f"resp_{prefix}1", "gpt-test-1", first),
        response(f"resp_{prefix}2", "gpt-test-1", [said("There is a.txt.", "msg_2")]),
    ]


def _chat(prefix: str) -> list[Map]:
    return [
        completion(f"chatcmpl-{prefix}1", "gpt-test-1", "I look — ö.", ("run", {"command": "ls"})),
        completion(f"chatcmpl-{prefix}2", "gpt-test-1", "There is a.txt."),
    ]


ANSWERS: dict[str, list[Map]] = {
    "responses": _responses("whole"),
    "responses_streamed": _responses("stream"),
    "responses_websocket": _responses("socket"),
    "chat": _chat("whole"),
    "chat_streamed": _chat("stream"),
}


def _with_responses(ask: Callable[[Any, list[Any]], Any]) -> list[Any]:
    """`ask` takes the response before and the items that are new."""
    items: list[Any] = [{"type": "message", "role": "user", "content": TASK}]
    answers: list[Any] = []
    while items:
        answer = ask(answers[-1] if answers else None, items)
        answers.append(answer)
        calls = [item for item in answer.output if item.type == "function_call"]
        items = [{"type": "function_call_output", "call_id": call.call_id, "output": RESULT} for call in calls]
    return answers


def _responses_whole(client: OpenAI, socket: Any) -> list[Any]:
    history: list[Any] = []

    def ask(before: Any, items: list[Any]) -> Any:
        history.extend([item.to_dict() for item in before.output] if before else [])
        history.extend(items)
        return client.responses.create(model="gpt-test", instructions="Be brief.", input=history, tools=[_TOOL])

    return _with_responses(ask)


def _responses_streamed(client: OpenAI, socket: Any) -> list[Any]:
    def ask(before: Any, items: list[Any]) -> Any:
        more: dict[str, Any] = {"previous_response_id": before.id} if before else {}
        with client.responses.stream(model="gpt-test", input=items, tools=[_TOOL], **more) as stream:
            return stream.get_final_response()

    return _with_responses(ask)


def _responses_websocket(client: OpenAI, socket: Any) -> list[Any]:
    with client.responses.connect(websocket_connection_options=socket) as connection:

        def ask(before: Any, items: list[Any]) -> Any:
            more: dict[str, Any] = {"previous_response_id": before.id} if before else {}
            connection.response.create(model="gpt-test", input=items, tools=[_TOOL], stream_id="main", **more)
            return next(event.response for event in connection if event.type == "response.completed")

        return _with_responses(ask)


def _with_chat(ask: Callable[[list[Any]], Any]) -> list[Any]:
    messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TASK}]
    answers: list[Any] = []
    while not answers or messages[-1]["role"] == "tool":
        answers.append(ask(messages))
        message = answers[-1].choices[0].message
        messages.append(message.to_dict())
        messages += [{"role": "tool", "tool_call_id": c.id, "content": RESULT} for c in message.tool_calls or []]
    return answers


def _chat_whole(client: OpenAI, socket: Any) -> list[Any]:
    return _with_chat(
        lambda messages: client.chat.completions.create(model="gpt-test", messages=messages, tools=[_CHAT_TOOL])
    )


def _chat_streamed(client: OpenAI, socket: Any) -> list[Any]:
    options: Any = {"include_usage": True}

    def ask(messages: list[Any]) -> Any:
        with client.chat.completions.stream(
            model="gpt-test", messages=messages, tools=[_CHAT_TOOL], stream_options=options
        ) as stream:
            return stream.get_final_completion()

    return _with_chat(ask)


STORIES: dict[str, Callable[[OpenAI, Any], list[Any]]] = {
    "responses": _responses_whole,
    "responses_streamed": _responses_streamed,
    "responses_websocket": _responses_websocket,
    "chat": _chat_whole,
    "chat_streamed": _chat_streamed,
}
"""Name -> a function of the client and of the options for a WebSocket's connection."""
