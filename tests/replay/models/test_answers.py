"""What comes in place of an answer, whatever the API: a page, plain words, a body that is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandtrail.replay.models import ModelCall
from tests.boundary.scripted import bedrock
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
    assert call.text.endswith("x\n[500 parts left out]")
    assert call.problems == ["tool_calls: 200 entries left out"]
    many = {"choices": [{"index": n, "message": {}, "finish_reason": "stop"} for n in range(200)]}
    assert read(many, CHAT, "http://m/v1/chat/completions").problems == ["choices: 72 entries left out"]


def test_lines_of_json_in_place_of_an_answer_are_told_and_not_cut() -> None:
    body = b'{"message": {"content": "a"}}\n{"message": {"content": "b"}, "done": true}\n'
    call = read(body, CHAT, "http://m/v1/chat/completions", "application/x-ndjson")
    assert (call.cut, call.error) == (False, body.decode().strip())


# -- the other APIs ----------------------------------------------------------------------------------------------------


def named(told: dict[str, Any]) -> bytes:
    return f"event: {told['type']}\n".encode() + event(told)


def anthropic(*told: dict[str, Any] | bytes) -> ModelCall:
    body = b"".join(one if isinstance(one, bytes) else named(one) for one in told)
    return read(body, CHAT, "http://m/v1/messages", "text/event-stream")


def responses(*told: dict[str, Any] | bytes) -> ModelCall:
    body = b"".join(one if isinstance(one, bytes) else named(one) for one in told)
    return read(body, {"model": "m", "input": "x"}, "http://m/v1/responses", "text/event-stream")


def gemini(*told: dict[str, Any] | bytes) -> ModelCall:
    body = b"".join(one if isinstance(one, bytes) else event(one) for one in told)
    return read(body, GEMINI, "http://m/v1beta/models/g:streamGenerateContent?alt=sse", "text/event-stream")


def converse(*told: tuple[str, dict[str, Any]]) -> ModelCall:
    body = b"".join(bedrock.event(kind, value) for kind, value in told)
    return read(body, CHAT, "http://m/model/x/converse-stream", bedrock.MEDIA)


BEGUN = {"type": "message_start", "message": {"type": "message", "id": "m1", "role": "assistant", "content": []}}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
WORDS = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
BLOCK_OVER = {"type": "content_block_stop", "index": 0}
OVER: list[dict[str, Any]] = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}]


def test_what_comes_after_a_block_s_or_a_message_s_end_is_named() -> None:
    call = anthropic(BEGUN, BLOCK, WORDS, BLOCK_OVER, WORDS, *OVER, BLOCK)
    assert call.text == "hihi"
    assert call.problems == ["a delta of a content block that had ended", "content_block_start after the message's end",
                             "two content blocks of one index"]  # fmt: skip
    words = ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "hi"}})
    block_over, over = ("contentBlockStop", {"contentBlockIndex": 0}), ("messageStop", {"stopReason": "end_turn"})
    more = ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t"}}})
    call = converse(("messageStart", {"role": "assistant"}), words, block_over, words, over, more, ("metadata", {}))
    assert call.problems == ["a delta of a content block that had ended", "contentBlockStart after the message's end"]
    parts = {"content": {"parts": [{"text": "hi"}]}}
    call = gemini({"candidates": [{**parts, "finishReason": "STOP"}]}, {"candidates": [parts]})
    assert (call.text, call.problems) == ("hihi", ["parts after the answer had said why it ended"])


def test_an_event_whose_name_is_another_than_its_type_is_named() -> None:
    call = anthropic(BEGUN, BLOCK, b"event: ping\n" + event(WORDS), *OVER)
    assert call.problems == ["an event named 'ping' that says to be 'content_block_delta': clients go by the name"]


def test_words_in_place_of_blocks_are_the_answer() -> None:
    message = {"type": "message", "content": "hello", "stop_reason": "end_turn"}
    assert read(message, CHAT, "http://m/v1/messages").text == "hello"
    output = {"output": {"message": {"role": "assistant", "content": "hello"}}, "stopReason": "end_turn"}
    assert read(output, CHAT, "http://m/model/x/converse").text == "hello"
    odd = read({**message, "content": {"text": "hello"}}, CHAT, "http://m/v1/messages")
    assert odd.problems == ["content is no list: {'text': 'hello'}"]


PLAIN_ERROR = b"event: error\ndata: gone\n\n"


@pytest.mark.parametrize(
    "call",
    [
        lambda: anthropic(BEGUN, BLOCK, WORDS, PLAIN_ERROR),
        lambda: responses({"type": "response.created", "response": {"id": "r"}}, PLAIN_ERROR),
        lambda: gemini({"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}, PLAIN_ERROR),
        # As Google's servers break off.
        lambda: gemini({"candidates": []}, b'{"error": {"code": 503,\n "message": "gone"}}'),
    ],
    ids=["anthropic", "responses", "gemini", "gemini, of no event"],
)
def test_an_error_in_the_middle_of_a_stream_is_told_whatever_its_form(call: Any) -> None:
    told = call()
    assert (told.error, told.finish_reason) == ("gone", None)


def test_a_stream_that_is_cut_within_a_field_s_name_has_no_line_that_is_odd() -> None:
    assert anthropic(BEGUN, BLOCK, WORDS, b"dat").problems == []
    assert anthropic(BEGUN, BLOCK, WORDS, b"Gateway timeout\n\n").problems == [
        "1 lines of the stream are of no event: Gateway timeout"
    ]


def test_a_last_event_without_end_is_shown_and_named_since_clients_drop_it() -> None:
    call = chat(delta({"content": "hello"}, "stop"), event(delta({"content": "!"})).rstrip())
    assert (call.text, call.problems) == ("hello!", ["the last event has no end: it is shown, and clients drop it"])
    assert chat(delta({"content": "hello"}, "stop"), END.rstrip()).problems == []


def test_bytes_that_are_not_utf_8_are_named_and_half_a_character_at_a_cut_is_not() -> None:
    body = event(delta({"content": "hello"})).replace(b"hello", b"he\xffo")
    call = chat(body, END)
    assert (call.text, call.problems) == ("he\ufffdo", [f"the answer is not UTF-8 at byte {body.index(0xFF)}"])
    cut = json.dumps(delta({"content": "h\u00e4"}), ensure_ascii=False).encode().partition(b"\xa4")[0]
    assert not any("UTF-8" in problem for problem in chat(b"data: " + cut).problems)


def message_item(text: str) -> dict[str, Any]:
    return {"type": "message", "id": "m1", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def test_an_end_that_says_something_else_than_its_items_is_named() -> None:
    def ended(*output: Any) -> dict[str, Any]:
        return {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": output}}

    item = {"type": "response.output_item.done", "output_index": 0, "item": message_item("yes")}
    assert responses(item, ended(message_item("yes"))).problems == []
    call = responses(item, ended(message_item("no")))
    assert (call.text, call.problems) == ("no", ["the answer's end says something else of 1 items than came before"])
    tool = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'}
    call = responses({**item, "item": tool}, ended({**tool, "arguments": '{"a": 2}'}))
    assert call.problems == ["the answer's end says something else of 1 items than came before"]


@pytest.mark.parametrize("status", [{}, {"status": "in_progress"}])
def test_a_stream_has_ended_when_an_event_says_so_and_not_before(status: dict[str, str]) -> None:
    begun = {"type": "response.created", "response": {"id": "r", **status}}
    item = {"type": "response.output_item.done", "output_index": 0, "item": message_item("yes")}
    cut = responses(begun, item)
    assert (cut.text, cut.finish_reason, cut.cut) == ("yes", None, True)
    whole = responses(begun, item, {"type": "response.completed", "response": {"id": "r"}})
    assert (whole.finish_reason, whole.cut) == ("completed", False)


def test_text_at_a_place_beyond_reason_is_named() -> None:
    far = {"type": "response.output_text.delta", "output_index": 0, "content_index": 300, "delta": "hidden"}
    assert "response.output_text.delta without a place in its item" in responses(far).problems


def test_a_part_of_a_type_that_is_not_known_is_named() -> None:
    odd = {"type": "message", "role": "assistant", "content": [{"type": "mystery", "words": "x"}]}
    call = read({"status": "completed", "output": [odd]}, {"model": "m", "input": "x"}, "http://m/v1/responses")
    assert call.problems == ["a part of unknown type 'mystery' in the output"]
