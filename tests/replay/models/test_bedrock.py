from __future__ import annotations

import base64
import json
from typing import Any

import botocore.parsers  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.models import ModelCall, decode_exchange
from tests.boundary.scripted import anthropic
from tests.boundary.scripted.bedrock import MEDIA, chunk, event, exception
from tests.replay.models import talk

HOST = "https://bedrock.test"
CONVERSE = f"{HOST}/model/m-1%3A0/converse"
STREAM = f"{HOST}/model/m-1%3A0/converse-stream"
INVOKE = f"{HOST}/model/m-1%3A0/invoke"
INVOKE_STREAM = f"{HOST}/model/m-1%3A0/invoke-with-response-stream"
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": [{"text": "hello"}]}]}
USE = {"toolUse": {"toolUseId": "t1", "name": "bash", "input": {"command": "ls -la"}}}
ANSWER: dict[str, Any] = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "They greet me.", "signature": "c2ln"}}},
                {"text": "I list the files."},
                USE,
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12},
    "metrics": {"latencyMs": 9},
}


def read(
    answer: Any, ask: Any = ASK, url: str = CONVERSE, media: str = "application/json", status: int = 200
) -> ModelCall:
    return talk.read(answer, ask, url, media, status)


def streamed(*sent: bytes, url: str = STREAM, ask: Any = ASK) -> ModelCall:
    return read(b"".join(sent), ask, url, MEDIA)


def delta(place: int, **fields: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": place, "delta": fields, "p": "abcdef"})


START, STOP = event("messageStart", {"role": "assistant"}), event("messageStop", {"stopReason": "end_turn"})


class TestRequests:
    def test_the_system_prompt_is_the_first_message(self) -> None:
        call = read(ANSWER, {**ASK, "system": [{"text": "be good"}, {"cachePoint": {"type": "default"}}]})
        assert [(m.role, m.text) for m in call.messages] == [("system", "be good"), ("user", "hello")]

    def test_each_result_of_a_tool_is_a_message_of_its_own(self) -> None:
        content = [
            {"toolResult": {"toolUseId": "a", "content": [{"text": "one"}], "status": "success"}},
            {"toolResult": {"toolUseId": "b", "content": [{"json": {"n": 2}}], "status": "error"}},
            {"toolResult": {"toolUseId": "c", "content": []}},
            {"text": "go on"},
            {"image": {"format": "png", "source": {"bytes": ""}}},
            {"document": {"name": "notes", "format": "txt", "source": {"text": "plain words"}}},
            {"guardContent": {"text": {"text": "guarded"}}},
        ]
        said = {"role": "assistant", "content": [{"text": "so"}, USE]}
        found = read(ANSWER, {"messages": [said, {"role": "user", "content": content}]}).messages
        assert [(t.id, t.parsed) for t in found[0].tool_calls] == [("t1", {"command": "ls -la"})]
        assert [(m.role, m.text, m.tool_call_id, m.is_error) for m in found[1:]] == [
            ("tool", "one", "a", False),
            ("tool", '{"n": 2}', "b", True),
            ("tool", "", "c", None),
            ("user", "go on\n[image png]\nplain words\nguarded", None, None),
        ]

    def test_tools_are_named_and_metadata_is_kept(self) -> None:
        tools = [
            {"toolSpec": {"name": "bash"}},
            {"cachePoint": {"type": "default"}},
            {"systemTool": {"name": "search"}},
        ]
        call = read(ANSWER, {**ASK, "toolConfig": {"tools": tools}, "requestMetadata": {"run": "7"}})
        assert (call.tools, call.extra["requestMetadata"]) == (["bash", "search"], {"run": "7"})


class TestConverse:
    def test_a_whole_answer_names_what_was_said_and_asked(self) -> None:
        call = read(ANSWER)
        assert (call.api, call.model, call.finish_reason) == ("bedrock.converse", "m-1:0", "tool_use")
        assert (call.text, call.reasoning) == ("I list the files.", "They greet me.")
        assert [(t.id, t.name, t.parsed, t.server) for t in call.tool_calls] == [
            ("t1", "bash", {"command": "ls -la"}, False)
        ]
        assert (call.usage, call.cut, call.streamed, call.problems) == (ANSWER["usage"], False, False, [])
        assert call.extra["metrics"] == {"latencyMs": 9}

    def test_what_ran_at_the_provider_is_marked_and_its_results_come_with_the_answer(self) -> None:
        start = {"toolUse": {"toolUseId": "s", "name": "search", "type": "server_tool_use"}}
        call = streamed(
            START,
            event("contentBlockStart", {"contentBlockIndex": 0, "start": start}),
            delta(0, toolUse={"input": "{}"}),
            event("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolResult": {"toolUseId": "s"}}}),
            delta(1, toolResult=[{"text": "fou"}]),
            delta(1, toolResult=[{"text": "nd"}, {"json": 1}]),
            delta(2, text="so"),
            delta(2, citation={"title": "t"}),
            STOP,
        )
        assert [(t.id, t.server) for t in call.tool_calls] == [("s", True)]
        assert [(m.tool_call_id, m.text) for m in call.choices[0].results] == [("s", "found\n1")]
        assert call.text == "so"
        assert call.problems == []

    def test_an_exception_in_the_stream_is_an_error_beside_what_came(self) -> None:
        call = streamed(START, delta(0, text="so far"), exception("throttlingException", "slow down"))
        assert (call.text, call.error, call.cut) == ("so far", "throttlingException: slow down", False)

    def test_an_error_in_place_of_an_answer(self) -> None:
        for url in (CONVERSE, STREAM, INVOKE, INVOKE_STREAM):
            call = read({"message": "no such model"}, url=url, status=404)
            assert (call.error, call.cut) == ("no such model", False)

    def test_a_cut_message_is_kept_as_far_as_it_goes(self) -> None:
        call = streamed(START, delta(0, text="one "), delta(0, text="secret plan")[:-22])
        assert (call.text, call.cut) == ("one ", True)
        assert "secret" in call.extra["cut event"]
        assert any("was cut off" in p for p in call.problems)

    def test_a_stream_under_a_wrong_content_type_is_still_read(self) -> None:
        call = read(START + delta(0, text="x") + STOP, url=STREAM)
        assert (call.text, call.streamed) == ("x", True)
        assert "application/json" in call.problems[0]
        assert read(ANSWER, media=MEDIA).text == "I list the files."

    def test_unknown_blocks_deltas_and_events_are_kept_and_named_once(self) -> None:
        odd = delta(0, hum={"mm": "x"})
        call = streamed(START, odd, odd, event("intermission", {"a": 1}), event("intermission", {"a": 1}), STOP)
        assert call.choices[0].message["content"] == [{"hum": {"mm": "xx"}}]
        assert call.extra["unknown events"] == [{"intermission": {"a": 1}}] * 2
        assert [sum(word in p for p in call.problems) for word in ("delta of an", "block of an", "intermission")] == [
            1
        ] * 3

    def test_a_delta_that_is_not_what_its_name_says_does_no_harm(self) -> None:
        start = event("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t"}}})
        call = streamed(START, start, delta(0, toolUse="odd"), delta(1, toolUse={"input": "{}"}), STOP)
        assert [(t.id, t.arguments) for t in call.tool_calls] == [("t", "{}"), ("", "{}")]
        assert any("toolUse" in p for p in call.problems)

    def test_an_endless_number_of_deltas_takes_linear_time(self) -> None:
        assert len(streamed(START, delta(0, text="0123456789") * 30_000).text) == 300_000


class TestInvoke:
    MESSAGE = anthropic.next_message({"messages": []})
    BODY = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}

    def test_anthropics_bodies_are_read_by_anthropics_reader(self) -> None:
        whole = read(self.MESSAGE, self.BODY, INVOKE)
        parts = streamed(*map(chunk, anthropic.events(self.MESSAGE)), url=INVOKE_STREAM, ask=self.BODY)
        for call in (whole, parts):
            assert (call.api, call.extra["family"], call.model) == ("bedrock.invoke", "anthropic.messages", "m-1:0")
            assert [m.text for m in call.messages] == ["hi"]
            assert call.tool_calls[0].parsed == {"command": "echo a.txt b.txt"}
            assert call.finish_reason == "tool_use"
            assert (call.problems, call.cut) == ([], False)
        assert (parts.text, parts.reasoning, parts.streamed) == (whole.text, whole.reasoning, True)

    def test_chat_completions_are_read_by_their_reader(self) -> None:
        choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}
        call = streamed(chunk({"choices": [choice]}), url=INVOKE_STREAM, ask={"messages": []})
        assert (call.text, call.extra["family"], call.cut) == ("hi", "openai.chat", False)

    def test_bodies_in_the_shape_of_converse_are_read_so(self) -> None:
        ask = {**ASK, "schemaVersion": "messages-v1", "inferenceConfig": {"maxTokens": 5}}
        assert read(ANSWER, ask, INVOKE).tool_calls[0].name == "bash"
        events: list[dict[str, Any]] = [
            {"messageStart": {"role": "assistant"}},
            {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "hi"}}},
            {"messageStop": {"stopReason": "end_turn"}},
            {"metadata": {"usage": {"inputTokens": 1}}, "amazon-bedrock-invocationMetrics": {"inputTokenCount": 1}},
        ]
        call = streamed(*map(chunk, events), url=INVOKE_STREAM, ask=ask)
        assert (call.text, call.finish_reason, call.usage, call.problems) == ("hi", "end_turn", {"inputTokens": 1}, [])

    @pytest.mark.parametrize(
        ("ask", "answers"),
        [
            (
                {"inputText": "q"},
                [{"outputText": "a ", "completionReason": None}, {"outputText": "b", "completionReason": "x"}],
            ),
            ({"inputText": "q"}, [{"results": [{"outputText": "a b", "completionReason": "x"}]}]),
            ({"prompt": "q"}, [{"generation": "a b", "stop_reason": "x", "prompt_token_count": 3}]),
            ({"prompt": "q"}, [{"outputs": [{"text": "a b", "stop_reason": "x"}]}]),
            ({"message": "q"}, [{"text": "a b", "finish_reason": "x", "generation_id": "g"}]),
            ({"prompt": "q"}, [{"completions": [{"data": {"text": "a b"}, "finishReason": {"reason": "x"}}]}]),
        ],
    )
    def test_the_words_of_other_families_are_found(self, ask: Any, answers: list[Any]) -> None:
        calls = [streamed(*map(chunk, answers), url=INVOKE_STREAM, ask=ask)]
        calls += [read(answers[0], ask, INVOKE)] if len(answers) == 1 else []
        for call in calls:
            assert (call.text, call.finish_reason, call.cut) == ("a b", "x", False)
            assert [(m.role, m.text) for m in call.messages] == [("user", "q")]
            assert call.problems == []

    def test_an_answer_of_an_unknown_shape_is_shown_and_named(self) -> None:
        call = read({"verdict": 3}, {"question": "q"}, INVOKE)
        assert (call.text, call.extra["request"]) == ('{"verdict": 3}', {"question": "q"})
        assert "not known" in call.problems[0]
        assert read({"embedding": [0.5]}, {"inputText": "q"}, INVOKE).problems == []

    def test_a_stream_that_breaks_off_is_cut(self) -> None:
        whole = b"".join(map(chunk, anthropic.events(self.MESSAGE)))
        call = streamed(whole[: len(whole) // 2], url=INVOKE_STREAM, ask=self.BODY)
        assert (call.cut, bool(call.reasoning)) == (True, True)

    def test_an_exception_in_the_stream_is_an_error(self) -> None:
        sent = [*map(chunk, anthropic.events(self.MESSAGE)[:8]), exception("modelTimeoutException", "too slow")]
        call = streamed(*sent, url=INVOKE_STREAM, ask=self.BODY)
        assert (call.error, call.cut) == ("modelTimeoutException: too slow", False)


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "model"),
        [
            ("/model/us.vendor.m-1%3A0/converse", "us.vendor.m-1:0"),
            (
                "/model/arn%3Aaws%3Abedrock%3Ar%3A1%3Ainference-profile%2Fus.m/converse",
                "arn:aws:bedrock:r:1:inference-profile/us.m",
            ),
            (
                "/prefix/model/arn:aws:bedrock:r:1:inference-profile/us.m/converse?x=1",
                "arn:aws:bedrock:r:1:inference-profile/us.m",
            ),
        ],
    )
    def test_the_path_names_the_model(self, path: str, model: str) -> None:
        assert read(ANSWER, url=f"http://10.0.0.1:8080{path}").model == model

    @pytest.mark.parametrize(
        "path", ["/model/m/count-tokens", "/guardrail/g/version/1/apply", "/async-invoke", "/model/m"]
    )
    def test_what_is_no_call_is_none(self, path: str) -> None:
        assert decode_exchange(talk.exchange({"inputTokens": 4}, ASK, HOST + path)) is None


MODEL = botocore.session.get_session().get_service_model("bedrock-runtime")
text = st.text(max_size=12)
json_object = st.dictionaries(st.text(max_size=6), talk.finite_values, max_size=3)


def draw_stream(data: st.DataObject) -> list[tuple[str, dict[str, Any]]]:
    """Converse's events as the service sends them."""
    out: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
    for index in range(data.draw(st.integers(0, 5))):
        place = {"contentBlockIndex": index}
        kind = data.draw(st.sampled_from(["text", "reasoning", "tool", "server"]))
        deltas: list[dict[str, Any]]
        if kind == "text":
            deltas = [{"text": t} for t in data.draw(st.lists(text, min_size=1, max_size=4))]
        elif kind == "reasoning":
            deltas = [{"reasoningContent": {"text": t}} for t in data.draw(st.lists(text, min_size=1, max_size=3))]
            deltas += [{"reasoningContent": {"signature": "c2ln"}}]
        else:
            use = {"toolUseId": f"t{index}", "name": data.draw(text.filter(bool))}
            use |= {"type": "server_tool_use"} if kind == "server" else {}
            out.append(("contentBlockStart", {"start": {"toolUse": use}, **place}))
            written = json.dumps(data.draw(json_object))
            cut = data.draw(st.integers(0, len(written)))
            deltas = [{"toolUse": {"input": part}} for part in ("", written[:cut], written[cut:])]
        out += [("contentBlockDelta", {"delta": one, **place}) for one in deltas]
        out.append(("contentBlockStop", place))
    out.append(("messageStop", {"stopReason": data.draw(st.sampled_from(["end_turn", "tool_use", "max_tokens"]))}))
    usage = {"inputTokens": data.draw(st.integers(0, 9)), "outputTokens": 1, "totalTokens": 1}
    return [*out, ("metadata", {"usage": usage, "metrics": {"latencyMs": 3}})]


def theirs(body: bytes, cuts: list[int]) -> list[dict[str, Any]]:
    """The events as the vendor's framing and its parser of responses give them, from a connection in these pieces."""
    shape = MODEL.operation_model("ConverseStream").output_shape.members["stream"]
    parser = botocore.parsers.EventStreamJSONParser()
    buffer = EventStreamBuffer()
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    found = []
    for start, end in zip(places, places[1:], strict=False):
        buffer.add_data(body[start:end])
        found += [parser.parse(one.to_response_dict(), shape) for one in buffer]
    return found


@settings(max_examples=150, deadline=None)
@given(st.data(), st.lists(st.integers(0, 5000), max_size=8))
def test_agrees_with_the_vendors_parser_on_every_field(data: st.DataObject, cuts: list[int]) -> None:
    body = b"".join(event(kind, {**fields, "p": "abc"}) for kind, fields in draw_stream(data))
    blocks: dict[int, dict[str, Any]] = {}
    reason = usage = role = None
    for found in theirs(body, cuts):
        ((kind, fields),) = found.items()
        if kind == "contentBlockStart":
            blocks[fields["contentBlockIndex"]] = {"use": fields["start"]["toolUse"]}
        elif kind == "contentBlockDelta":
            held = blocks.setdefault(fields["contentBlockIndex"], {})
            ((name, value),) = fields["delta"].items()
            if name == "text":
                held["text"] = held.get("text", "") + value
            elif name == "toolUse":
                held["input"] = held.get("input", "") + value["input"]
            else:
                held["thought"] = held.get("thought", "") + value.get("text", "")
        elif kind == "messageStart":
            role = fields["role"]
        elif kind == "messageStop":
            reason = fields["stopReason"]
        elif kind == "metadata":
            usage = fields["usage"]

    call = streamed(body)
    (choice,) = call.choices
    assert talk.odd(call) == []
    assert (choice.message["role"], choice.finish_reason, call.usage) == (role, reason, usage)
    said = [blocks[index] for index in sorted(blocks)]
    assert choice.text.replace("\n", "") == "".join(b.get("text", "") for b in said).replace("\n", "")
    assert choice.reasoning == "\n".join(b["thought"] for b in said if "thought" in b)
    uses = [b for b in said if "use" in b]
    assert [(t.id, t.name, t.arguments, t.parsed, t.server) for t in choice.tool_calls] == [
        (b["use"]["toolUseId"], b["use"]["name"], b["input"], json.loads(b["input"]), "type" in b["use"]) for b in uses
    ]
    assert not call.cut


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_stream_cut_anywhere_is_read_as_far_as_it_goes(data: st.DataObject) -> None:
    whole = b"".join(event(kind, fields) for kind, fields in draw_stream(data))
    all_of_it, part = streamed(whole), streamed(whole[: data.draw(st.integers(0, len(whole)))])
    assert all_of_it.text.startswith(part.text)
    assert all_of_it.reasoning.startswith(part.reasoning)
    for ours, full in zip(part.tool_calls, all_of_it.tool_calls, strict=False):
        assert (ours.id, ours.name) == (full.id, full.name)


_fields = (
    *(
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "messageStop",
        "metadata",
        "contentBlockIndex",
        "start",
    ),
    *("delta", "toolUse", "toolResult", "input", "text", "reasoningContent", "reasoningText", "citation", "usage"),
    *("content", "messages", "system", "toolConfig", "tools", "output", "message", "stopReason", "bytes", "source"),
    *("citationsContent", "json", "status", "toolUseId", "image", "document", "choices", "prompt", "results", "type"),
)
_kinds = st.sampled_from(
    ["messageStart", "contentBlockStart", "contentBlockDelta", "messageStop", "metadata", "chunk", "x"]
)


@settings(max_examples=100, deadline=None)
@given(talk.shaped(*_fields), st.lists(st.tuples(_kinds, talk.shaped(*_fields)), max_size=4))
def test_nothing_that_a_server_sends_raises(ask: Any, sent: list[tuple[str, Any]]) -> None:
    plain = b"".join(event(kind, fields) for kind, fields in sent)
    nested = [{"bytes": base64.b64encode(json.dumps(fields).encode()).decode()} for _, fields in sent]
    inner = b"".join(event("chunk", one) for one in nested)
    for request in (ask, {"messages": [{"role": "user", "content": [ask]}, {"role": "assistant", "content": [ask]}]}):
        for body in (plain, inner):
            talk.showable(streamed(body, ask=request))
            talk.showable(streamed(body, url=INVOKE_STREAM, ask=request))
        for answer in [fields for _, fields in sent][:1]:
            talk.showable(read(answer, request))
            talk.showable(read(answer, request, INVOKE))


@settings(max_examples=100, deadline=None)
@given(st.binary(), st.binary(), st.sampled_from([CONVERSE, STREAM, INVOKE, INVOKE_STREAM]))
def test_no_bytes_raise(ask: bytes, answer: bytes, url: str) -> None:
    for media in (MEDIA, "application/json", ""):
        talk.showable(read(answer, ask, url, media))


def test_nesting_without_end_does_not_raise() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    for url in (CONVERSE, STREAM, INVOKE, INVOKE_STREAM):
        talk.showable(read(deep, deep, url))
    talk.showable(read(b'{"output":{"message":{"content":' + deep + b"}}}", deep))
