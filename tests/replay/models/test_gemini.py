from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from google.genai import types
from google.genai._api_client import HttpResponse
from google.genai.models import _GenerateContentResponse_from_mldev as from_wire
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.models import ModelCall, decode_exchange
from tests.replay.models import talk

URL = "https://model.test/v1beta/models/g-1:generateContent"
STREAM = "https://model.test/v1beta/models/g-1:streamGenerateContent"
ASK: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
CALL = {"functionCall": {"id": "f1", "name": "bash", "args": {"command": "ls -la"}}}
ANSWER: dict[str, Any] = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [{"text": "They greet me.", "thought": True}, {"text": "I list the files."}, CALL],
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12},
    "modelVersion": "g-1-2026",
    "responseId": "r-1",
}


def read(answer: Any, ask: Any = ASK, url: str = URL, media: str = "application/json", status: int = 200) -> ModelCall:
    return talk.read(answer, ask, url, media, status)


def chunk(*parts: dict[str, Any], index: int | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}} if parts else {}
    candidate |= {"index": index} if index is not None else {}
    candidate |= {"finishReason": finish} if finish else {}
    return {"candidates": [candidate], "modelVersion": "g-1-2026", "responseId": "r-1", **more}


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(c).encode() + b"\r\n\r\n" for c in chunks)


def array(*chunks: Any) -> bytes:
    return b"[" + b"\n,\r\n".join(json.dumps(c, indent=1).encode() for c in chunks) + b"\n]\n"


def streamed(*chunks: Any, **more: Any) -> ModelCall:
    """The call as both kinds of stream carry it; they must say the same."""
    events = read(sse(*chunks), url=STREAM + "?alt=sse", media="text/event-stream", **more)
    listed = read(array(*chunks), url=STREAM, **more)
    assert events == listed
    return events


class TestRequests:
    def test_the_system_instruction_is_the_first_message(self) -> None:
        for name in ("systemInstruction", "system_instruction"):
            call = read(ANSWER, {**ASK, name: {"parts": [{"text": "be good"}]}})
            assert [(m.role, m.text) for m in call.messages] == [("system", "be good"), ("user", "hello")]

    def test_calls_and_results_meet_by_id_or_by_name(self) -> None:
        asked = [CALL, {"functionCall": {"name": "look"}}, {"functionCall": {"name": "look", "args": {"at": 2}}}]
        given_back = [
            {"functionResponse": {"id": "f1", "name": "bash", "response": {"output": "a.txt"}}},
            {"functionResponse": {"name": "look", "response": {"seen": [1]}}},
            {"function_response": {"name": "look", "response": {"error": "dark"}}},
            {"text": "go on"},
        ]
        ask = {"contents": [{"role": "model", "parts": asked}, {"role": "user", "parts": given_back}]}
        said, *results, words = read(ANSWER, ask).messages
        assert (said.role, [(t.id, t.name) for t in said.tool_calls]) == (
            "assistant",
            [("f1", "bash"), ("look", "look"), ("look#2", "look")],
        )
        assert [(m.role, m.tool_call_id, m.text, m.is_error) for m in results] == [
            ("tool", "f1", "a.txt", None),
            ("tool", "look", '{"seen": [1]}', None),
            ("tool", "look#2", "dark", True),
        ]
        assert (words.role, words.text) == ("user", "go on")

    def test_media_is_named(self) -> None:
        parts = [{"inlineData": {"mimeType": "image/png", "data": ""}}, {"file_data": {"mime_type": "video/mp4"}}]
        assert read(ANSWER, {"contents": {"parts": parts}}).messages[0].text == "[image image/png]\n[video video/mp4]"

    def test_tools_are_named_and_what_stands_for_history_is_kept(self) -> None:
        tools = [{"functionDeclarations": [{"name": "bash"}, {"name": "look"}]}, {"googleSearch": {}}]
        call = read(ANSWER, {**ASK, "tools": tools, "cachedContent": "cachedContents/x"})
        assert call.tools == ["bash", "look", "googleSearch"]
        assert call.extra["cachedContent"] == "cachedContents/x"


class TestAnswers:
    def test_a_whole_answer_names_what_was_said_and_asked(self) -> None:
        call = read(ANSWER)
        assert (call.api, call.model, call.response_model, call.response_id) == (
            "gemini.generateContent",
            "g-1",
            "g-1-2026",
            "r-1",
        )
        assert (call.text, call.reasoning, call.finish_reason) == ("I list the files.", "They greet me.", "STOP")
        assert [(t.id, t.name, t.parsed, t.server) for t in call.tool_calls] == [
            ("f1", "bash", {"command": "ls -la"}, False)
        ]
        assert (call.usage, call.cut, call.streamed, call.problems) == (ANSWER["usageMetadata"], False, False, [])

    def test_words_that_come_in_pieces_run_on(self) -> None:
        call = streamed(
            chunk({"text": "hm", "thought": True}),
            chunk({"text": "m", "thought": True}),
            chunk({"text": "one "}),
            chunk({"text": "two"}),
            chunk(CALL, finish="STOP", usageMetadata={"totalTokenCount": 3}),
        )
        assert (call.reasoning, call.text, call.tool_calls[0].id) == ("hmm", "one two", "f1")
        assert call.choices[0].message["parts"][:2] == [{"text": "hmm", "thought": True}, {"text": "one two"}]
        assert (call.usage, call.cut, call.streamed) == ({"totalTokenCount": 3}, False, True)

    def test_code_that_ran_at_the_provider_and_its_result(self) -> None:
        code = {"executableCode": {"language": "PYTHON", "code": "print(1)"}}
        result = {"codeExecutionResult": {"outcome": "OUTCOME_FAILED", "output": "no"}}
        search = {"toolCall": {"id": "s", "toolType": "GOOGLE_SEARCH_WEB", "args": {"q": "x"}}}
        found = {"toolResponse": {"id": "s", "toolType": "GOOGLE_SEARCH_WEB", "response": {"output": "y"}}}
        call = streamed(chunk(code), chunk(result, search), chunk(found, {"text": "so"}, finish="STOP"))
        assert [(t.id, t.name, t.server) for t in call.tool_calls] == [
            ("code_execution", "code_execution", True),
            ("s", "GOOGLE_SEARCH_WEB", True),
        ]
        assert call.tool_calls[0].parsed["code"] == "print(1)"
        assert [(m.tool_call_id, m.text, m.is_error) for m in call.choices[0].results] == [
            ("code_execution", "no", True),
            ("s", "y", None),
        ]

    def test_several_candidates_are_told_apart(self) -> None:
        call = streamed(
            chunk({"text": "a"}, index=0),
            chunk({"text": "x"}, index=1),
            chunk({"text": "b"}, index=0, finish="STOP"),
            chunk({"text": "y"}, index=1, finish="MAX_TOKENS"),
        )
        assert [(c.index, c.text, c.finish_reason) for c in call.choices] == [
            (0, "ab", "STOP"),
            (1, "xy", "MAX_TOKENS"),
        ]

    def test_arguments_that_come_in_pieces_are_put_together(self) -> None:
        def part(**call: Any) -> dict[str, Any]:
            return {"functionCall": call}

        call = streamed(
            chunk(part(name="bash", id="p", willContinue=True)),
            chunk(
                part(
                    partialArgs=[{"jsonPath": "$.command", "stringValue": "ls ", "willContinue": True}],
                    willContinue=True,
                )
            ),
            chunk(part(partialArgs=[{"jsonPath": "$.command", "stringValue": "-la"}], willContinue=True)),
            chunk(
                part(partialArgs=[{"jsonPath": "$.at[0].n", "numberValue": 2}, {"jsonPath": "?", "boolValue": True}])
            ),
            chunk(part(name="look", args={}), finish="STOP"),
        )
        assert [t.parsed for t in call.tool_calls] == [
            {"command": "ls -la", "at": [{"n": 2}], "partialArgs": {"?": True}},
            {},
        ]

    def test_a_blocked_prompt_is_an_error(self) -> None:
        call = read({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}})
        assert (call.error, call.choices, call.cut) == ("the prompt was blocked: SAFETY", [], False)

    def test_an_error_in_place_of_an_answer(self) -> None:
        error = {"error": {"code": 404, "message": "no such model", "status": "NOT_FOUND"}}
        for body in (error, [error]):
            call = read(body, url=STREAM, status=404)
            assert (call.error, call.cut) == ("no such model", False)

    def test_an_array_cut_anywhere_keeps_the_chunks_that_came(self) -> None:
        whole = array(chunk({"text": "one "}), chunk({"text": "two"}, finish="STOP"))
        texts = {read(whole[:end], url=STREAM).text for end in range(len(whole))}
        assert texts == {"", "one ", "one two"}
        assert read(whole[:-80], url=STREAM).cut
        assert any("not a JSON object" in p for p in read(whole[:-80], url=STREAM).problems)

    def test_unknown_parts_are_kept_and_named_once(self) -> None:
        call = streamed(
            chunk({"song": {"key": "c"}}), chunk({"song": {"key": "d"}}), chunk({"text": "x"}, finish="STOP")
        )
        assert call.choices[0].message["parts"][0] == {"song": {"key": "c"}}
        assert len([p for p in call.problems if "song" in p]) == 1

    def test_an_endless_number_of_chunks_takes_linear_time(self) -> None:
        assert len(read(sse(chunk({"text": "0123456789"})) * 20_000, url=STREAM).text) == 200_000


class TestPaths:
    @pytest.mark.parametrize(
        ("url", "model"),
        [
            ("http://10.0.0.1/v1beta/models/g-9%3AgenerateContent?key=x", "g-9"),
            ("https://v.test/v1/projects/p/locations/l/publishers/google/models/g-9:generateContent", "g-9"),
            ("https://v.test/v1/projects/p/locations/l/endpoints/123:generateContent", "123"),
            ("https://g.test/v1beta/tunedModels/mine-1:generateContent", "mine-1"),
            ("http://gateway.test/odd", ""),
        ],
    )
    def test_the_host_does_not_matter_and_the_path_names_the_model(self, url: str, model: str) -> None:
        call = read(ANSWER, url=url)
        assert (call.model, call.tool_calls[0].name) == (model, "bash")

    def test_code_assist_wraps_request_and_answer(self) -> None:
        ask = {"model": "g-1", "project": "p", "request": ASK}
        url = "https://a.test/v1internal:streamGenerateContent?alt=sse"
        call = read(sse({"response": ANSWER, "traceId": "t"}), ask, url, "text/event-stream")
        assert (call.model, call.messages[0].text, call.text) == ("g-1", "hello", "I list the files.")
        assert call.extra["traceId"] == "t"

    @pytest.mark.parametrize("verb", ["countTokens", "embedContent", "batchGenerateContent", "predict"])
    def test_what_is_no_call_is_none(self, verb: str) -> None:
        url = f"https://x/v1beta/models/g-1:{verb}"
        assert decode_exchange(talk.exchange({"totalTokens": 4}, ASK, url)) is None


text = st.text(max_size=12)
ARGS = st.none() | st.dictionaries(st.text(max_size=6), talk.finite_values, max_size=3)


@st.composite
def parts(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["text", "text", "thought", "call", "code", "result", "image"]))
    if kind == "text":
        return {"text": draw(text)}
    if kind == "thought":
        return {"text": draw(text), "thought": True}
    if kind == "call":
        ident = draw(st.fixed_dictionaries({}, optional={"id": text.filter(bool), "args": ARGS.filter(bool)}))
        return {"functionCall": {"name": draw(text.filter(bool)), **ident}, "thoughtSignature": "c2ln"}
    if kind == "code":
        return {"executableCode": {"language": "PYTHON", "code": draw(text)}}
    if kind == "result":
        return {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": draw(text)}}
    return {"inlineData": {"mimeType": "image/png", "data": "aWNv"}}


@st.composite
def chunks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A stream as the server sends it, with one or two candidates."""
    out = []
    count = draw(st.integers(1, 2))
    for _ in range(draw(st.integers(0, 8))):
        index = draw(st.integers(0, count - 1))
        usage = {"promptTokenCount": draw(st.integers(1, 9))}
        out.append(chunk(*draw(st.lists(parts(), min_size=1, max_size=3)), index=index, usageMetadata=usage))
    reasons = ["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL"]
    for index in range(count):
        out.append(chunk({"text": ""}, index=index, finish=draw(st.sampled_from(reasons))))
    return out


def theirs(body: bytes, cuts: list[int]) -> list[types.GenerateContentResponse]:
    """The stream as the vendor's client reads it from a connection that hands it over in these pieces."""
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in zip(places, places[1:], strict=False)]
    response = HttpResponse(headers={}, response_stream=httpx.Response(200, content=iter(pieces)))
    return [
        types.GenerateContentResponse._from_response(response=from_wire(found), kwargs={})
        for found in response.segments()
    ]


@settings(max_examples=120, deadline=None)
@given(chunks(), st.lists(st.integers(0, 10_000), max_size=8), st.booleans())
def test_agrees_with_the_vendors_types_on_every_field(sent: list[Any], cuts: list[int], listed: bool) -> None:
    body = array(*sent) if listed else sse(*sent)
    call = read(body, url=STREAM, media="application/json" if listed else "text/event-stream")
    found = theirs(sse(*sent), cuts)  # the vendor's client asks for events alone

    assert call.problems == []
    assert (call.response_id, call.response_model) == (found[-1].response_id, found[-1].model_version)
    last = next((r.usage_metadata for r in reversed(found) if r.usage_metadata), None)
    assert (call.usage or {}).get("promptTokenCount") == (last.prompt_token_count if last else None)
    candidates = [c for response in found for c in response.candidates or []]
    for choice in call.choices:
        mine = [c for c in candidates if (c.index or 0) == choice.index]
        held = [p for c in mine if c.content for p in c.content.parts or []]
        assert choice.finish_reason == next(c.finish_reason.value for c in mine if c.finish_reason)
        assert choice.text.replace("\n", "") == _said(held, thought=False)
        assert choice.reasoning.replace("\n", "") == _said(held, thought=True)
        asked = [p.function_call for p in held if p.function_call]
        assert [(t.name, t.parsed) for t in choice.tool_calls if not t.server] == [
            (f.name, f.args or {}) for f in asked
        ]
        assert [t.id for t, f in zip(_client(choice.tool_calls), asked, strict=True) if f.id] == [
            f.id for f in asked if f.id
        ]
        code = [p.executable_code for p in held if p.executable_code]
        assert [t.parsed["code"] for t in choice.tool_calls if t.server] == [c.code for c in code]
        results = [p.code_execution_result for p in held if p.code_execution_result]
        assert [m.text for m in choice.results] == [r.output for r in results]
    assert {c.index or 0 for c in candidates} == {choice.index for choice in call.choices}
    assert not call.cut


def _said(held: list[types.Part], thought: bool) -> str:
    return "".join(p.text for p in held if p.text is not None and bool(p.thought) is thought).replace("\n", "")


def _client(tools: list[Any]) -> list[Any]:
    return [tool for tool in tools if not tool.server]


@settings(max_examples=60, deadline=None)
@given(chunks(), st.data(), st.booleans())
def test_a_stream_cut_anywhere_is_read_as_far_as_it_goes(sent: list[Any], data: st.DataObject, listed: bool) -> None:
    whole = array(*sent) if listed else sse(*sent)
    until = data.draw(st.integers(0, len(whole)))
    all_of_it, part = (read(body, url=STREAM, media="") for body in (whole, whole[:until]))
    seen = {choice.index: choice for choice in all_of_it.choices}
    for choice in part.choices:
        assert seen[choice.index].text.startswith(choice.text.removesuffix("\ufffd"))
        assert [t.arguments for t in seen[choice.index].tool_calls][: len(choice.tool_calls)] == [
            t.arguments for t in choice.tool_calls
        ]


_fields = (
    *("candidates", "content", "parts", "text", "thought", "functionCall", "functionResponse", "args", "name", "id"),
    *("index", "finishReason", "error", "promptFeedback", "blockReason", "response", "request", "contents", "role"),
    *("partialArgs", "willContinue", "jsonPath", "stringValue", "executableCode", "codeExecutionResult", "tools"),
    *("function_call", "$.a[0].b", "model", "systemInstruction", "functionDeclarations", "toolCall", "toolResponse"),
)


@settings(max_examples=100, deadline=None)
@given(talk.shaped(*_fields), st.lists(talk.shaped(*_fields), max_size=4))
def test_nothing_that_a_server_sends_raises(ask: Any, answers: list[Any]) -> None:
    some = [{"candidates": [{"content": {"parts": answers}}]}, *answers]
    for body in (sse(*some), array(*some), json.dumps(some[-1]).encode()):
        for request in (ask, {"contents": [{"role": "model", "parts": [ask]}, ask], "systemInstruction": ask}):
            talk.showable(read(body, request, STREAM))


@settings(max_examples=100, deadline=None)
@given(st.binary(), st.binary(), st.sampled_from([b"", b"[", b"data: ", b'[{"candidates":']))
def test_no_bytes_raise(ask: bytes, answer: bytes, head: bytes) -> None:
    talk.showable(read(head + answer, ask, STREAM))


def test_nesting_without_end_does_not_raise() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    talk.showable(read(deep, deep))
    talk.showable(read(b'[{"candidates":' + deep, deep, STREAM))
    path = "$" + ".a" * 5000
    odd = {"functionCall": {"name": "x", "partialArgs": [{"jsonPath": path, "stringValue": "y"}]}}
    talk.showable(read(sse(chunk(odd)), url=STREAM))
