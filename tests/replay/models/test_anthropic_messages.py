from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic import NOT_GIVEN
from anthropic.lib.streaming._beta_messages import accumulate_event as accumulate_beta
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message as VendorsMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.models import ModelCall, decode_exchange
from tests.replay.models import talk

URL = "https://model.test/v1/messages"
ASK: dict[str, Any] = {"model": "c-1", "max_tokens": 99, "messages": [{"role": "user", "content": "hello"}]}
USE = {"type": "tool_use", "id": "t1", "name": "bash", "input": {"command": "ls -la"}}
ANSWER: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "c-1-2026",
    "content": [
        {"type": "thinking", "thinking": "They greet me.", "signature": "c2ln"},
        {"type": "text", "text": "I list the files."},
        USE,
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 7},
}


def read(answer: Any, ask: Any = ASK, url: str = URL, media: str = "application/json", status: int = 200) -> ModelCall:
    return talk.read(answer, ask, url, media, status)


def stream(*events: Any) -> bytes:
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


def start(**more: Any) -> dict[str, Any]:
    message = {**ANSWER, "content": [], "stop_reason": None, "usage": {"input_tokens": 5, "output_tokens": 1}, **more}
    return {"type": "message_start", "message": message}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def words(text: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": text}


def arguments(text: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": text}


def end(reason: str = "end_turn", **usage: Any) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9, **usage}},
        {"type": "message_stop"},
    ]


def streamed(*events: Any, **more: Any) -> ModelCall:
    return read(stream(*events), media="text/event-stream", **more)


class TestRequests:
    def test_the_system_prompt_is_the_first_message(self) -> None:
        for system in ("be good", [{"type": "text", "text": "be good", "cache_control": {"type": "ephemeral"}}]):
            call = read(ANSWER, {**ASK, "system": system})
            assert [(m.role, m.text) for m in call.messages] == [("system", "be good"), ("user", "hello")]

    def test_each_result_of_a_tool_is_a_message_of_its_own_in_its_place(self) -> None:
        content = [
            {"type": "tool_result", "tool_use_id": "a", "content": "one"},
            {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "two"}], "is_error": True},
            {"type": "text", "text": "go on"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}},
            {"type": "tool_result", "tool_use_id": "c"},
        ]
        found = read(ANSWER, {**ASK, "messages": [{"role": "user", "content": content}]}).messages
        assert [(m.role, m.text, m.tool_call_id, m.is_error) for m in found] == [
            ("tool", "one", "a", None),
            ("tool", "two", "b", True),
            ("user", "go on\n[image image/png]", None, None),
            ("tool", "", "c", None),
        ]
        assert found[1].raw == content[1]

    def test_documents_that_are_text_are_shown(self) -> None:
        content = [
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain words"}},
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "in blocks"}]}},
            {"type": "document", "source": {"type": "base64", "data": "JVBE"}, "title": "report.pdf"},
            {"type": "search_result", "title": "t", "source": "s", "content": [{"type": "text", "text": "found"}]},
        ]
        (found,) = read(ANSWER, {**ASK, "messages": [{"role": "user", "content": content}]}).messages
        assert found.text == "plain words\nin blocks\n[document report.pdf, 3 B, sha256 a135fc158ef93b36…]\nt\nfound"

    def test_what_ran_at_the_provider_is_marked_and_its_results_follow(self) -> None:
        content = [
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "s1",
                "content": [{"type": "web_search_result", "url": "u", "encrypted_content": "x"}],
            },
            {"type": "mcp_tool_use", "id": "m1", "name": "echo", "server_name": "e", "input": {}},
            {"type": "mcp_tool_result", "tool_use_id": "m1", "is_error": False, "content": "back"},
            {"type": "text", "text": "so it is"},
        ]
        ask = {**ASK, "messages": [*ASK["messages"], {"role": "assistant", "content": content}]}
        for call in (read({**ANSWER, "content": content}, ask), streamed(start(content=content), *end(), ask=ask)):
            said, first, second = call.messages[1:]
            assert [(t.name, t.server) for t in said.tool_calls] == [("web_search", True), ("echo", True)]
            assert said.text == "so it is"
            assert (first.role, first.tool_call_id, json.loads(first.text)["url"]) == ("tool", "s1", "u")
            assert (second.text, second.is_error) == ("back", False)
            assert [t.server for t in call.tool_calls] == [True, True]
            assert [(m.tool_call_id, m.text) for m in call.choices[0].results] == [("s1", first.text), ("m1", "back")]
            assert call.problems == []

    def test_a_failed_server_tool_is_an_error(self) -> None:
        error = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
        content = [{"type": "web_search_tool_result", "tool_use_id": "s1", "content": error}]
        (result,) = read({**ANSWER, "content": content}).choices[0].results
        assert result.is_error
        assert "max_uses_exceeded" in result.text

    def test_who_asked_and_where_tools_run_is_kept_without_their_credentials(self) -> None:
        ask = {
            **ASK,
            "metadata": {"user_id": "u-1"},
            "container": "c-9",
            "mcp_servers": [{"type": "url", "name": "e", "url": "https://e.test", "authorization_token": "hush"}],
            "tools": [{"name": "bash"}, {"type": "mcp_toolset", "mcp_server_name": "e"}],
            "thread": {"type": "continue", "previous_message_id": "msg_0"},
        }
        call = read(ANSWER, ask)
        assert (call.extra["metadata"], call.extra["container"]) == ({"user_id": "u-1"}, "c-9")
        assert call.extra["mcp_servers"] == [{"name": "e", "url": "https://e.test"}]
        assert (call.tools, call.previous) == (["bash", "e"], "msg_0")

    def test_a_summary_in_place_of_the_history_is_shown(self) -> None:
        content = [{"type": "compaction", "content": "we greeted"}, {"type": "text", "text": "yes"}]
        ask = {**ASK, "messages": [{"role": "assistant", "content": content}]}
        assert read(ANSWER, ask).messages[0].text == "we greeted\nyes"


class TestAnswers:
    def test_a_whole_answer_names_what_was_said_and_asked(self) -> None:
        call = read(ANSWER)
        assert (call.api, call.model, call.response_model, call.response_id) == (
            "anthropic.messages",
            "c-1",
            "c-1-2026",
            "msg_1",
        )
        assert (call.text, call.reasoning, call.finish_reason) == ("I list the files.", "They greet me.", "tool_use")
        assert [(t.id, t.name, t.parsed, t.server) for t in call.tool_calls] == [("t1", "bash", USE["input"], False)]
        assert (call.usage, call.cut, call.streamed, call.problems) == (ANSWER["usage"], False, False, [])

    def test_arguments_stay_as_the_model_wrote_them(self) -> None:
        call = streamed(start(), *block(0, {**USE, "input": {}}, arguments('{"a" :'), arguments(" 1}")), *end())
        assert (call.tool_calls[0].arguments, call.tool_calls[0].parsed) == ('{"a" : 1}', {"a": 1})

    def test_arguments_that_were_cut_off_are_kept_as_far_as_they_came(self) -> None:
        call = streamed(start(), *block(0, {**USE, "input": {}}, arguments('{"command": "l')))
        assert (call.tool_calls[0].arguments, call.cut) == ('{"command": "l', True)

    def test_halves_of_a_character_meet_across_deltas(self) -> None:
        text = block(0, {"type": "text", "text": ""}, words("\ud83d"), words("\ude00"))
        assert streamed(start(), *text, *end()).text == "\N{GRINNING FACE}"

    def test_a_reason_in_the_middle_is_an_error_beside_what_came(self) -> None:
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        call = streamed(start(), *block(0, {"type": "text", "text": ""}, words("so far")), error)
        assert (call.text, call.error, call.cut) == ("so far", "Overloaded", False)

    def test_an_error_in_place_of_an_answer(self) -> None:
        body = {"type": "error", "error": {"type": "not_found_error", "message": "no such model"}, "request_id": "r"}
        call = read(body, status=404)
        assert (call.error, call.choices, call.cut) == ("no such model", [], False)
        vertex = [{"error": {"code": 404, "message": "gone"}}]
        assert read(vertex, status=404).error == "gone"

    def test_what_a_refusal_says(self) -> None:
        details = {"type": "refusal", "category": "bio", "explanation": "not this"}
        call = read({**ANSWER, "content": [], "stop_reason": "refusal", "stop_details": details})
        assert (call.refusal, call.finish_reason) == ("not this", "refusal")

    def test_unknown_blocks_deltas_and_events_are_kept_and_named_once(self) -> None:
        odd = [{"type": "hum_delta", "hum": "mm"}] * 3
        events = [start(), *block(0, {"type": "song", "key": "c"}, *odd), *block(1, {"type": "song"})]
        call = streamed(*events, {"type": "intermission"}, {"type": "intermission"}, *end())
        assert call.choices[0].message["content"][0] == {"type": "song", "key": "c", "hum_delta": {"hum": "mmmmmm"}}
        assert len([p for p in call.problems if "song" in p]) == 1
        assert len([p for p in call.problems if "hum" in p]) == 1
        assert len([p for p in call.problems if "intermission" in p]) == 1
        assert call.extra["unknown events"] == [{"type": "intermission"}] * 2

    def test_a_delta_whose_type_is_a_field_s_name_does_no_harm(self) -> None:
        odd = {"type": "type", "text": "x"}
        call = streamed(start(), *block(0, {**USE, "input": {}}, odd, arguments('{"a": 1}')), *end())
        assert [(t.id, t.parsed) for t in call.tool_calls] == [("t1", {"a": 1})]

    def test_a_stream_whose_beginning_was_not_seen_is_read_from_there(self) -> None:
        call = streamed(*block(2, {}, words("late"))[1:], *end())
        assert (call.text, call.finish_reason) == ("late", "end_turn")
        assert any("never began" in p for p in call.problems)

    def test_a_stream_under_a_wrong_content_type_is_still_read(self) -> None:
        call = read(stream(start(), *block(0, {"type": "text", "text": "x"}), *end()))
        assert (call.text, call.streamed) == ("x", True)
        assert "application/json" in call.problems[0]

    def test_an_endless_number_of_deltas_takes_linear_time(self) -> None:
        (_, delta, _) = block(0, {}, words("0123456789"))
        body = stream(start(), *block(0, {"type": "text", "text": ""})[:1]) + stream(delta) * 50_000
        assert len(read(body, media="text/event-stream").text) == 500_000


class TestPaths:
    @pytest.mark.parametrize(
        "url",
        [
            URL + "?beta=true",
            "http://10.0.0.1:8080/anthropic/v1/messages",
            "https://v.test/v1/projects/p/locations/l/publishers/anthropic/models/c-9@20260101:rawPredict",
            "https://v.test/v1/projects/p/locations/l/publishers/anthropic/models/c-9%4020260101:streamRawPredict",
            "http://gateway.test/odd",
        ],
    )
    def test_the_host_does_not_matter(self, url: str) -> None:
        assert read(ANSWER, url=url).tool_calls[0].name == "bash"

    def test_on_vertex_the_path_names_the_model(self) -> None:
        url = "https://v.test/v1/projects/p/locations/l/publishers/anthropic/models/c-9%4020260101:streamRawPredict"
        ask = {"anthropic_version": "vertex-2023-10-16", "messages": ASK["messages"], "stream": True}
        assert read(stream(start(), *end()), ask, url, "text/event-stream").model == "c-9@20260101"

    @pytest.mark.parametrize(
        ("path", "ask"),
        [
            ("/v1/messages/count_tokens", ASK),
            ("/v1/messages/batches", {"requests": [{"custom_id": "a", "params": ASK}]}),
            ("/v1/messages", {"from": "1", "to": "2", "message_type": "text", "text": "an SMS"}),
            ("/v1/publishers/anthropic/models/count-tokens:rawPredict", ASK),
            ("/v1/threads/t/messages", {"role": "user", "content": "x"}),
        ],
    )
    def test_what_is_no_call_is_none(self, path: str, ask: Any) -> None:
        assert decode_exchange(talk.exchange({"input_tokens": 4}, ask, f"https://x{path}")) is None

    def test_a_request_that_was_cut_off_is_still_a_call(self) -> None:
        call = read(ANSWER, json.dumps(ASK).encode()[:40])
        assert (call.input_cut, call.text) == (True, "I list the files.")


text = st.text(max_size=12)
json_object = st.dictionaries(st.text(max_size=6), talk.finite_values, max_size=3)
citation = st.builds(
    lambda t, n: {
        "type": "char_location",
        "cited_text": t,
        "document_index": n,
        "document_title": None,
        "start_char_index": 0,
        "end_char_index": n,
    },
    text,
    st.integers(0, 9),
)
_whole = [
    {"type": "redacted_thinking", "data": "opaque"},
    {"type": "web_search_tool_result", "tool_use_id": "s", "content": [], "caller": {"type": "direct"}},
    {"type": "container_upload", "file_id": "file_1"},
    {"type": "mcp_tool_result", "tool_use_id": "m", "is_error": True, "content": [{"type": "text", "text": "no"}]},
]


def pieces(data: st.DataObject, whole: str) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    return [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def draw_events(data: st.DataObject, beta: bool) -> list[dict[str, Any]]:
    """A stream as the server sends it: blocks with their deltas, cut anywhere between two characters."""
    events = [start()]
    for index in range(data.draw(st.integers(0, 5))):
        kind = data.draw(st.sampled_from(["text", "thinking", "tool", "server", "whole", *(["mcp"] if beta else [])]))
        if kind == "text":
            deltas = [words(piece) for piece in pieces(data, data.draw(text))]
            deltas += [{"type": "citations_delta", "citation": c} for c in data.draw(st.lists(citation, max_size=2))]
            events += block(index, {"type": "text", "text": data.draw(text)}, *deltas)
        elif kind == "thinking":
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(data, data.draw(text))]
            deltas.append({"type": "signature_delta", "signature": "c2ln"})
            events += block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)
        elif kind == "whole":
            events += block(index, data.draw(st.sampled_from(_whole if beta else _whole[:3])))
        else:
            typed = {"tool": "tool_use", "server": "server_tool_use", "mcp": "mcp_tool_use"}[kind]
            name = data.draw(text) if kind != "server" else "web_search"
            head = {"type": typed, "id": f"t{index}", "name": name, "input": {}}
            written = json.dumps(data.draw(json_object))
            more = {"server_name": "srv"} if kind == "mcp" else {}
            events += block(index, {**head, **more}, *map(arguments, ["", *pieces(data, written)]))
        if data.draw(st.booleans()):
            events.append({"type": "ping"})
    usage = data.draw(st.fixed_dictionaries({}, optional={"input_tokens": st.integers(0, 99)}))
    return [*events, *end(data.draw(st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal"])), **usage)]


@pytest.mark.parametrize("beta", [False, True])
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_agrees_with_the_vendors_accumulator_on_every_field(beta: bool, data: st.DataObject) -> None:
    events = draw_events(data, beta)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        if event["type"] == "ping":
            continue
        if beta:
            snapshot = accumulate_beta(
                event=event,  # type: ignore[arg-type]
                current_snapshot=snapshot,
                json_bufs=buffers,
                request_headers=None,  # type: ignore[arg-type]
                output_format=NOT_GIVEN,
            )
        else:
            snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)  # type: ignore[arg-type]
    theirs = snapshot.to_dict(mode="json")

    call = streamed(*events, url=URL + "?beta=true" if beta else URL)
    assert talk.odd(call) == []
    (choice,) = call.choices
    assert talk.without_none(choice.message) == talk.without_none(theirs)
    assert (call.response_id, call.response_model) == (theirs["id"], theirs["model"])
    assert choice.finish_reason == theirs["stop_reason"]
    assert talk.without_none(call.usage) == talk.without_none(theirs["usage"])
    content = theirs["content"]
    said = [b["text"] for b in content if b["type"] == "text"]
    assert choice.text.replace("\n", "") == "".join(said).replace("\n", "")
    assert choice.reasoning == "\n".join(b["thinking"] for b in content if b["type"] == "thinking")
    assert [(t.id, t.name, t.parsed, t.server) for t in choice.tool_calls] == [
        (b["id"], b["name"], b["input"], b["type"] != "tool_use") for b in content if b["type"].endswith("tool_use")
    ]
    assert [(m.tool_call_id, m.is_error) for m in choice.results] == [
        (b["tool_use_id"], b.get("is_error")) for b in content if b["type"].endswith("tool_result")
    ]
    assert not call.cut


def test_the_vendor_reads_our_sample_as_we_do() -> None:
    theirs = VendorsMessage.model_validate(ANSWER)
    assert theirs.content[1].text == read(ANSWER).text  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_stream_cut_anywhere_is_read_as_far_as_it_goes(data: st.DataObject) -> None:
    whole = stream(*draw_events(data, beta=True))
    until = data.draw(st.integers(0, len(whole)))
    all_of_it, part = (read(body, media="text/event-stream") for body in (whole, whole[:until]))
    assert all_of_it.text.startswith(part.text.removesuffix("\ufffd"))
    assert all_of_it.reasoning.startswith(part.reasoning.removesuffix("\ufffd"))
    for ours, theirs in zip(part.tool_calls, all_of_it.tool_calls, strict=False):
        assert (ours.id, ours.name) == (theirs.id, theirs.name)
        assert theirs.arguments.startswith(ours.arguments) or ours.arguments == "{}"
    assert part.cut is not part.finished or b"message_stop" in whole[:until]


_fields = (
    *("type", "index", "delta", "content_block", "message", "content", "text", "thinking", "input", "partial_json"),
    *("citation", "usage", "stop_reason", "id", "name", "tool_use_id", "error", "role", "source", "is_error", "to"),
    *("message_start", "content_block_start", "content_block_delta", "message_delta", "tool_use", "text_delta"),
    *("tool_result", "document", "citations_delta", "input_json_delta", "messages", "system", "tools"),
)


@settings(max_examples=100, deadline=None)
@given(talk.shaped(*_fields), st.lists(talk.shaped(*_fields), max_size=4))
def test_nothing_that_a_server_sends_raises(ask: Any, answers: list[Any]) -> None:
    whole = json.dumps(answers[0] if answers else None).encode()
    for body in (b"".join(b"data: " + json.dumps(a).encode() + b"\n\n" for a in answers), whole):
        for request in (ask, {"messages": [{"role": "user", "content": ask}, ask], "system": ask}):
            call = decode_exchange(talk.exchange(body, request, URL))
            if call is not None:
                talk.showable(call)


def test_nesting_without_end_does_not_raise() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    inner = b'{"a":' * 900 + b"1" + b"}" * 900
    talk.showable(read(deep, deep))
    odd = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"x","a":' + inner + b"}}\n\n"
    talk.showable(read(odd * 3, media="text/event-stream"))
    nested: Any = {"type": "text", "text": "x"}
    for _ in range(200):
        nested = {"type": "document", "source": {"type": "content", "content": [nested]}}
    talk.showable(read(ANSWER, {**ASK, "messages": [{"role": "user", "content": [nested]}]}))
