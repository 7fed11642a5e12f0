"""What comes in place of an answer, whatever the API: a page, plain words, a body that is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandtrail.replay.models import ModelCall
from tests.replay.models.talk import read

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
GEMINI = {"contents": [{"parts": [{"text": "hello"}]}]}
APIS: dict[str, Any] = {
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "m", "input": "hello"},
    "/v1/messages": CHAT,
    "/v1beta/models/g:generateContent": GEMINI,
    "/v1beta/models/g:streamGenerateContent": GEMINI,
    "/model/x/converse": CHAT,
    "/model/x/converse-stream": CHAT,
    "/model/x/invoke": CHAT,
}
PAGE = b"<html><body>Please log in</body></html>"


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize(
    ("body", "media"),
    [
        (PAGE, "text/html"),
        (PAGE, "application/json"),
        (PAGE, "text/event-stream"),
        (b"upstream timed out", "text/plain"),
    ],
)
def test_what_came_whole_and_is_no_answer_is_told_in_its_own_words(path: str, body: bytes, media: str) -> None:
    call = read(body, APIS[path], f"http://m{path}", media)
    assert (call.error, call.choices, call.cut, call.streamed) == (body.decode(), [], False, False)


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\n \n"])
def test_an_answer_of_which_only_the_beginning_came_is_cut(path: str, mark: bytes) -> None:
    call = read(mark + b'{"id": "x", "choi', APIS[path], f"http://m{path}")
    assert (call.choices, call.cut, call.error) == ([], True, None)
    assert call.problems


def test_a_stream_is_told_by_what_it_looks_like_after_a_byte_order_mark_as_well() -> None:
    body = b'\xef\xbb\xbfdata: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
    call = read(body, CHAT, "http://m/v1/chat/completions", "text/plain")
    assert (call.text, call.streamed, call.cut) == ("hi", True, False)
    assert call.problems == ["a stream of events, sent as text/plain"]


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(told: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": told, "finish_reason": reason, **more}]}


def chat(*chunks: Any) -> ModelCall:
    body = b"".join(chunk if isinstance(chunk, bytes) else event(chunk) for chunk in chunks)
    return read(body, CHAT, "http://m/v1/chat/completions", "text/event-stream")


def whole(message: dict[str, Any]) -> ModelCall:
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return read(answer, CHAT, "http://m/v1/chat/completions")


END = b"data: [DONE]\n\n"
FUNCTION = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize("said", [b'{"message": "overloaded"}', b'{"error": {"message": "overloaded"}}', b"overloaded"])
def test_an_event_named_error_is_one_whatever_its_shape(said: bytes) -> None:
    call = chat(delta({"content": "hel"}), b"event: error\ndata: " + said + b"\n\n")
    assert (call.text, call.error, call.finish_reason) == ("hel", "overloaded", None)


def test_tool_calls_that_all_come_under_one_index_are_told_apart_by_their_ids() -> None:
    calls = [{**FUNCTION, "index": 0, "id": ident} for ident in ("a", "b")]
    call = chat(delta({"tool_calls": calls[:1]}), delta({"tool_calls": calls[1:]}), delta({}, "tool_calls"), END)
    assert [(tool.id, tool.name, tool.parsed) for tool in call.tool_calls] == [("a", "f", {}), ("b", "f", {})]
    assert call.problems == ["1 tool calls under the index of another one"]


def test_arguments_that_are_no_json_are_named_and_the_free_text_of_a_custom_tool_is_not() -> None:
    broken = {"id": "a", "function": {"name": "bash", "arguments": '{"command": "ls'}}
    call = whole({"tool_calls": [broken, {"id": "b", "custom": {"name": "patch", "input": "*** Begin"}}]})
    assert [(tool.arguments, tool.parsed) for tool in call.tool_calls] == [
        ('{"command": "ls', None),
        ("*** Begin", None),
    ]
    assert call.problems == ["the arguments of the tool call a bash are not JSON"]


def test_a_tool_call_of_an_unknown_type_is_one_and_named() -> None:
    call = whole({"tool_calls": [{"id": "a", "type": "robot", "robot": {"arm": 1}}]})
    assert [(tool.id, tool.name, tool.parsed) for tool in call.tool_calls] == [
        ("a", "robot", {"type": "robot", "robot": {"arm": 1}})
    ]
    assert call.problems == ["a tool call of an unknown type: 'robot'"]


def test_what_comes_after_the_stream_s_end_is_named() -> None:
    call = chat(delta({"content": "hello"}, "stop"), END, delta({"content": " and more"}))
    assert (call.text, call.problems) == ("hello", ["events after the stream's end, which no client reads"])


def test_chunks_with_a_message_or_a_text_in_place_of_a_delta_are_read() -> None:
    message = {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}
    assert chat(message, END).text == "hi"
    assert chat(delta({"content": "hi"}), message, END).text == "hi"
    texts = [{"choices": [{"index": 0, "text": text}]} for text in ("h", "i")]
    assert chat(*texts, END).text == "hi"


def test_what_is_more_than_is_read_is_counted() -> None:
    parts = [{"type": "text", "text": "x"}] * 1500
    call = whole({"content": parts, "tool_calls": [FUNCTION] * 1200})
    assert len(call.tool_calls) == 1000
    assert call.problems == ["content: 500 parts left out", "tool_calls: 200 entries left out"]
    many = {"choices": [{"index": n, "message": {}, "finish_reason": "stop"} for n in range(200)]}
    assert read(many, CHAT, "http://m/v1/chat/completions").problems == ["choices: 72 entries left out"]


def test_lines_of_json_in_place_of_an_answer_are_told_and_not_cut() -> None:
    body = b'{"message": {"content": "a"}}\n{"message": {"content": "b"}, "done": true}\n'
    call = read(body, CHAT, "http://m/v1/chat/completions", "application/x-ndjson")
    assert (call.cut, call.error) == (False, body.decode().strip())
