from __future__ import annotations

import gzip
import json
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from sandtrail.replay.models import Exchange, ModelCall, decode_exchange
from tests.boundary.openai_oracle import as_completion, compare_chat
from tests.boundary.scripted.openai import chat_chunks, completion, in_pieces
from tests.replay.models.talk import odd

ASK = {"model": "m-1", "messages": [{"role": "system", "content": "be good"}, {"role": "user", "content": "hello"}]}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1-2026",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "I list the files.",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls -la"}'}}
                ],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
}


def exchange(
    answer: Any = b"",
    ask: Any = ASK,
    *,
    url: str = "http://model.test/v1/chat/completions",
    method: str = "POST",
    status: int | None = 200,
    media: str | None = "application/json",
    coding: str | None = None,
    cut: bool = False,
) -> Exchange:
    headers = [("Content-Type", media)] if media else []
    headers += [("Content-Encoding", coding)] if coding else []
    return Exchange(
        "f",
        "1",
        method=method,
        url=url,
        request_body=ask if isinstance(ask, bytes) else json.dumps(ask).encode(),
        status=status,
        response_headers=headers,
        response_body=answer if isinstance(answer, bytes) else json.dumps(answer).encode(),
        response_cut=cut,
    )


def read(*args: Any, **kwargs: Any) -> ModelCall:
    call = decode_exchange(exchange(*args, **kwargs))
    assert call is not None
    return call


def stream(*chunks: Any, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + (["data: [DONE]\n\n"] if done else [])
    return "".join(lines).encode()


def chunk(delta: dict[str, Any], index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


class TestWholeAnswers:
    def test_names_what_was_asked_and_answered(self) -> None:
        call = read(ANSWER)
        assert (call.api, call.model, call.response_model) == ("openai.chat", "m-1", "m-1-2026")
        assert [(m.role, m.text) for m in call.messages] == [("system", "be good"), ("user", "hello")]
        assert call.text == "I list the files."
        assert call.tool_calls[0].name == "bash"
        assert call.tool_calls[0].parsed == {"command": "ls -la"}
        assert call.finish_reason == "tool_calls"
        assert call.usage == ANSWER["usage"]
        assert (call.cut, call.streamed) == (False, False)
        assert (call.problems, call.error) == ([], None)

    @pytest.mark.parametrize(
        ("coding", "encode"),
        [("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstandard.ZstdCompressor().compress)],
    )
    def test_undoes_content_codings(self, coding: str, encode: Any) -> None:
        call = read(encode(json.dumps(ANSWER).encode()), coding=coding)
        assert call.text == "I list the files."
        assert call.problems == []

    def test_takes_a_body_that_is_not_coded_as_its_header_says(self) -> None:
        call = read(ANSWER, coding="gzip")
        assert call.text == "I list the files."
        assert "gzip" in call.problems[0]

    def test_a_tiny_body_that_inflates_without_end_is_cut(self) -> None:
        call = read(gzip.compress(b" " * 40_000_000, 1), coding="gzip")
        assert any("longer than" in problem for problem in call.problems)

    def test_reads_the_function_call_of_old(self) -> None:
        message = {"role": "assistant", "content": None, "function_call": {"name": "run", "arguments": "{}"}}
        call = read({"choices": [{"index": 0, "message": message, "finish_reason": "function_call"}]})
        assert [(t.name, t.arguments, t.parsed) for t in call.tool_calls] == [("run", "{}", {})]

    def test_keeps_custom_tools_and_unknown_fields(self) -> None:
        message = {
            "role": "assistant",
            "content": "",
            "reasoning": "because",
            "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls"}}],
        }
        call = read({"choices": [{"index": 0, "message": message, "weight": 3}], "shard": 7})
        assert (call.tool_calls[0].name, call.tool_calls[0].arguments) == ("sh", "ls")
        assert call.choices[0].message["reasoning"] == "because"
        assert call.choices[0].extra == {"weight": 3}
        assert call.extra == {"shard": 7}

    def test_an_error_body_is_an_error_not_a_cut(self) -> None:
        call = read({"error": {"message": "no such model", "type": "invalid"}}, status=404)
        assert call.error == "no such model"
        assert not call.cut

    def test_an_error_page_of_a_proxy_is_an_error(self) -> None:
        assert read(b"<html>Bad gateway</html>", status=502, media="text/html").error == "<html>Bad gateway</html>"

    def test_half_an_answer_is_cut(self) -> None:
        call = read(json.dumps(ANSWER).encode()[:60], cut=True)
        assert call.cut
        assert call.problems

    def test_no_answer_is_cut(self) -> None:
        assert read(b"", status=None).cut

    def test_several_choices_keep_their_order(self) -> None:
        choices = [{"index": i, "message": {"content": f"t{i}"}, "finish_reason": "stop"} for i in (1, 0)]
        assert [c.text for c in read({"choices": choices}).choices] == ["t0", "t1"]


class TestStreams:
    def test_puts_tool_call_deltas_together(self) -> None:
        call = read(
            stream(
                chunk({"role": "assistant", "content": ""}),
                chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "bash"}}]}),
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"com'}}]}),
                chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'mand": "ls"}'}}]}),
                chunk({}, finish="tool_calls"),
                {"choices": [], "usage": {"total_tokens": 3}},
            ),
            media="text/event-stream",
        )
        assert call.streamed
        assert (call.tool_calls[0].id, call.tool_calls[0].parsed) == ("c1", {"command": "ls"})
        assert call.usage == {"total_tokens": 3}
        assert not call.cut

    def test_a_cut_stream_keeps_what_came(self) -> None:
        whole = stream(chunk({"content": "one "}), chunk({"content": "two"}), done=False)
        call = read(whole[:-20], media="text/event-stream")
        assert call.text == "one "
        assert call.cut
        assert call.problems

    def test_a_stream_without_done_whose_choices_ended_is_whole(self) -> None:
        body = stream(chunk({"content": "x"}), chunk({}, finish="stop"), done=False)
        assert not read(body, media="text/event-stream").cut

    def test_an_error_in_the_middle_of_a_stream_is_an_error(self) -> None:
        body = stream(chunk({"content": "x"}), {"error": {"message": "overloaded"}}, done=False)
        call = read(body, media="text/event-stream")
        assert (call.text, call.error) == ("x", "overloaded")

    def test_a_stream_under_a_wrong_content_type_is_still_read(self) -> None:
        call = read(stream(chunk({"content": "x"}), chunk({}, finish="stop")), media="application/json")
        assert call.text == "x"
        assert "application/json" in call.problems[0]

    def test_a_whole_answer_to_a_request_for_a_stream_is_read(self) -> None:
        call = read(ANSWER, {**ASK, "stream": True}, media="text/event-stream")
        assert call.text == "I list the files."

    def test_a_server_that_repeats_ids_and_names_is_understood(self) -> None:
        again = {"index": 0, "id": "c1", "function": {"name": "bash", "arguments": "{"}}
        call = read(stream(chunk({"tool_calls": [again]}), chunk({"tool_calls": [again]}, finish="stop")))
        assert (call.tool_calls[0].id, call.tool_calls[0].name, call.tool_calls[0].arguments) == ("c1", "bash", "{{")

    def test_halves_of_a_surrogate_pair_meet_across_deltas(self) -> None:
        body = b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n'
        body += b'data: {"choices":[{"index":0,"delta":{"content":"\\ude00"},"finish_reason":"stop"}]}\n\n'
        assert read(body).text == "\N{GRINNING FACE}"
        assert read(body.split(b"\n\n")[0]).text == "\ufffd"

    def test_an_endless_number_of_deltas_takes_linear_time(self) -> None:
        delta = b'data: {"choices":[{"index":0,"delta":{"content":"0123456789"}}]}\n\n'
        assert len(read(delta * 100_000).text) == 1_000_000


class TestLessCommonAnswers:
    def test_words_that_are_spoken_are_its_text(self) -> None:
        spoken = {"id": "audio_1", "data": "UklGRg==", "transcript": "Hello.", "expires_at": 5}
        message = {"role": "assistant", "content": None, "audio": spoken}
        assert read({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).text == "Hello."
        deltas: list[dict[str, Any]] = [
            {"audio": {"id": "audio_1"}},
            {"audio": {"transcript": "Hel"}},
            {"audio": {"transcript": "lo."}},
        ]
        deltas += [{"audio": {"data": "UklGRg=="}}, {"audio": {"expires_at": 5}}]
        call = read(stream(*map(chunk, deltas), chunk({}, finish="stop")))
        assert (call.text, call.choices[0].message["audio"]) == ("Hello.", spoken)

    def test_a_custom_tool_is_streamed_like_any_other(self) -> None:
        first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": ""}}
        more = [{"tool_calls": [{"index": 0, "custom": {"input": piece}}]} for piece in ("ls ", "-la")]
        call = read(stream(chunk({"tool_calls": [first]}), *map(chunk, more), chunk({}, finish="tool_calls")))
        assert [(t.id, t.name, t.arguments) for t in call.tool_calls] == [("a", "sh", "ls -la")]

    def test_what_it_thought_is_no_text(self) -> None:
        for name in ("reasoning_content", "reasoning"):
            call = read(stream(chunk({name: "I "}), chunk({name: "think."}), chunk({"content": "Yes."}, finish="stop")))
            assert (call.reasoning, call.text) == ("I think.", "Yes.")

    def test_the_last_chunk_s_usage_and_padding_are_no_news(self) -> None:
        body = stream(
            chunk({"content": "x"}, finish="stop", obfuscation="aXx", usage=None), {"choices": [], "usage": {}}
        )
        call = read(body)
        assert (call.usage, call.extra) == ({}, {"created": 1})

    def test_a_refusal_in_the_history_is_shown(self) -> None:
        said = {"role": "assistant", "content": None, "refusal": "I won't."}
        assert read(ANSWER, {"messages": [said]}).messages[0].text == "I won't."

    def test_a_model_that_only_the_path_names(self) -> None:
        ask = {"messages": ASK["messages"]}
        call = read(
            ANSWER, ask, url="https://r.test/openai/deployments/gpt%2D5/chat/completions?api-version=2025-01-01"
        )
        assert call.model == "gpt-5"
        filtered = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
        last = chunk({"content": "x"}, finish="stop", content_filter_results={"hate": {}})
        call = read(stream(filtered, last), media="text/event-stream")
        assert (call.text, call.response_id, call.problems) == ("x", "x", [])
        assert call.extra["prompt_filter_results"] == [{"prompt_index": 0}]


class TestRegistry:
    def test_the_host_does_not_matter(self) -> None:
        for url in ("http://10.0.0.1:8080/v1/chat/completions", "https://x/openai/deployments/d/chat/completions?v=1"):
            assert decode_exchange(exchange(ANSWER, url=url)) is not None

    def test_an_odd_path_is_told_by_the_bodies(self) -> None:
        assert decode_exchange(exchange(ANSWER, url="http://x/invoke")) is not None

    def test_other_traffic_is_no_model_call(self) -> None:
        assert decode_exchange(exchange(b"<html>", b"a=b", url="http://x/form")) is None
        assert decode_exchange(exchange(ANSWER, b"", method="GET")) is None
        assert decode_exchange(exchange({"id": "msg", "content": []}, {"to": "x"}, url="http://x/v1/messages")) is None


words = st.text(max_size=12)
tool_fragment = st.fixed_dictionaries({}, optional={"arguments": words})


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Streams as a server sends them: a first delta each, then pieces of words, refusals and tool calls, then usage."""
    chunks: list[dict[str, Any]] = []
    tools: dict[int, int] = {}
    count = draw(st.integers(1, 3))
    # The oracle takes the first chunk as a snapshot and finds later choices by their place.
    for index in range(count):
        first: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | words)}
        chunks.append(chunk(first, index))
    for _ in range(draw(st.integers(0, 12))):
        index = draw(st.integers(0, count - 1))
        what = draw(st.sampled_from(["content", "refusal", "tool", "new tool", "function_call", "logprobs", "other"]))
        if what in ("content", "refusal"):
            chunks.append(chunk({what: draw(words)}, index))
        elif what == "new tool":
            place = tools[index] = tools.get(index, -1) + 1
            function = {"name": draw(words.filter(bool)), "arguments": draw(words)}
            call = {"index": place, "id": f"call_{place}", "type": "function", "function": function}
            chunks.append(chunk({"tool_calls": [call]}, index))
        elif what == "tool" and index in tools:
            place = draw(st.integers(0, tools[index]))
            chunks.append(chunk({"tool_calls": [{"index": place, "function": draw(tool_fragment)}]}, index))
        elif what == "function_call":
            chunks.append(chunk({"function_call": {"arguments": draw(words)}}, index))
        elif what == "logprobs":
            entry = {"token": draw(words), "logprob": -0.5, "bytes": None, "top_logprobs": []}
            chunks.append(chunk({"content": "t"}, index))
            chunks[-1]["choices"][0]["logprobs"] = {"content": [entry], "refusal": None}
        else:
            chunks.append(chunk({"reasoning_content": draw(words)}, index))
    for index in range(count):
        chunks.append(chunk({}, index, draw(st.sampled_from(["stop", "tool_calls", "length", "content_filter"]))))
    last: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chunks.append({**last, "usage": usage} if draw(st.booleans()) else last)
    return chunks


@settings(max_examples=150, deadline=None)
@given(streams())
def test_agrees_with_the_vendors_accumulator_on_every_field(chunks: list[dict[str, Any]]) -> None:
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    for raw in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(raw))
    expected = state.current_completion_snapshot.to_dict()
    call = read(stream(*chunks), media="text/event-stream")

    assert call.response_id == expected["id"]
    assert call.response_model == expected["model"]
    assert call.usage == expected.get("usage")
    wanted: Any = expected["choices"]
    assert len(call.choices) == len(wanted)
    for ours, theirs in zip(call.choices, wanted, strict=True):
        assert ours.index == theirs["index"]
        assert ours.finish_reason == theirs["finish_reason"]
        assert _without_none(ours.message) == _without_none(theirs["message"])
        assert _without_none(ours.extra.get("logprobs") or {}) == _without_none(theirs.get("logprobs") or {})
        assert [(t.id, t.name, t.arguments) for t in ours.tool_calls if t.id] == [
            (t["id"], t["function"]["name"], t["function"]["arguments"])
            for t in theirs["message"].get("tool_calls") or []
        ]
    assert not call.cut
    assert odd(call) == []


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            words, st.lists(st.tuples(words.filter(bool), st.dictionaries(words, words, max_size=2)), max_size=3)
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 5),
)
def test_whole_answers_and_their_streams_are_read_as_the_vendor_reads_them(
    said: list[tuple[str, list[tuple[str, dict[str, str]]]]], size: int
) -> None:
    answers = [completion("x", "m", text, *calls) for text, calls in said]
    answer = {**answers[0], "choices": [{**a["choices"][0], "index": n} for n, a in enumerate(answers)]}
    compare_chat(read(answer), as_completion(answer))
    told = list(chat_chunks(answer, in_pieces(size)))
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    # The oracle finds choices by their place among those that it has seen.
    for raw in sorted(told, key=lambda c: not (c["choices"] and "role" in c["choices"][0]["delta"])):
        state.handle_chunk(ChatCompletionChunk.model_validate(raw))
    compare_chat(read(stream(*told)), as_completion(state.current_completion_snapshot.to_dict()))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None and k != "parsed"}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


@settings(max_examples=80, deadline=None)
@given(streams(), st.data())
def test_a_stream_cut_anywhere_is_read_as_far_as_it_goes(chunks: list[dict[str, Any]], data: st.DataObject) -> None:
    whole = stream(*chunks)
    end = data.draw(st.integers(0, len(whole)))
    text = read(whole, media="text/event-stream").text
    part = read(whole[:end], media="text/event-stream").text
    assert text.startswith(part.removesuffix("\ufffd"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "choices",
    "delta",
    "message",
    "tool_calls",
    "function",
    "arguments",
    "index",
    "id",
    "content",
    "usage",
    "error",
]
chat_like = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(chat_like, st.lists(chat_like, max_size=4), st.sampled_from(["", "gzip", "br", "zstd", "deflate", "x, y"]))
def test_nothing_that_a_server_sends_raises(ask: Any, answers: list[Any], coding: str) -> None:
    for body in (stream(*answers), json.dumps(answers[0] if answers else None).encode()):
        found = read(body, ask, coding=coding)
        json.dumps([found.text, found.error, found.finish_reason, found.problems]).encode()


@settings(max_examples=200, deadline=None)
@given(st.binary(), st.binary(), st.sampled_from(["text/event-stream", "application/json", ""]))
def test_no_bytes_raise(ask: bytes, answer: bytes, media: str) -> None:
    read(answer, ask, media=media)
    read(b"data: " + answer, ask, media=media)


def test_nesting_without_end_does_not_raise() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    inner = b'{"choices":[{"index":0,"delta":{"a":' * 1 + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}}]}"
    read(deep, deep)
    read(b"data: " + deep + b"\n\ndata: " + inner + b"\n\n" + b"data: " + inner + b"\n\n")


def test_the_vendor_reads_our_sample_as_we_do() -> None:
    theirs = ChatCompletion.model_validate(ANSWER).choices[0].message
    assert theirs.content == read(ANSWER).text
