from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.models import Exchange, ModelCall, decode_exchange
from tests.boundary.openai_answers import answers, splits
from tests.boundary.openai_oracle import as_response, compare_response, final_response
from tests.boundary.scripted.openai import events, in_pieces, response, sse
from tests.replay.models.talk import odd

URL = "https://model.test/v1/responses"
ASK: dict[str, Any] = {"model": "m-1", "instructions": "be good", "input": "list the files"}


def part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def said(*texts: str, ident: str = "msg_1") -> dict[str, Any]:
    return {
        "id": ident, "type": "message", "role": "assistant", "status": "completed", "content": [part(t) for t in texts]
    }  # fmt: skip


def called(name: str = "bash", arguments: str = '{"command": "ls"}', call_id: str = "call_1") -> dict[str, Any]:
    return {
        "id": f"fc_{call_id}", "type": "function_call", "status": "completed", "call_id": call_id, "name": name,
        "arguments": arguments,
    }  # fmt: skip


THOUGHT = {
    "id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "I think."}],
    "encrypted_content": "gAAAA",
}  # fmt: skip
ANSWER = response("resp_1", "m-1-2026", [THOUGHT, said("I list the files."), called()])


def read(
    answer: Any = b"", ask: Any = ASK, *, url: str = URL, status: int | None = 200, media: str = "", cut: bool = False
) -> ModelCall:
    streamed = isinstance(answer, bytes) and answer[:5] in (b"event", b"data:")
    call = decode_exchange(
        Exchange(
            "f",
            "1",
            method="POST",
            url=url,
            request_body=ask if isinstance(ask, bytes) else json.dumps(ask).encode(),
            status=status,
            response_headers=[("Content-Type", media or ("text/event-stream" if streamed else "application/json"))],
            response_body=answer if isinstance(answer, bytes) else json.dumps(answer).encode(),
            response_cut=cut,
        )
    )
    assert call is not None
    return call


def streamed(answer: dict[str, Any], size: int = 3) -> list[dict[str, Any]]:
    return list(events(answer, in_pieces(size)))


class TestRequests:
    def test_instructions_stand_first_then_the_input(self) -> None:
        call = read(ANSWER)
        assert [(m.role, m.text) for m in call.messages] == [("system", "be good"), ("user", "list the files")]
        assert (call.api, call.model) == ("openai.responses", "m-1")

    def test_what_the_model_said_at_one_go_is_one_message(self) -> None:
        history = [
            {"role": "user", "content": [{"type": "input_text", "text": "go"}, {"type": "input_image"}]},
            THOUGHT, said("I look."), called(call_id="a"), called(call_id="b"),
            {"type": "function_call_output", "call_id": "a", "output": "x.txt"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "y.txt"}]},
        ]  # fmt: skip
        messages = read(ANSWER, {"model": "m", "input": history}).messages
        assert [(m.role, m.text, m.tool_call_id) for m in messages] == [
            ("user", "go\n[image]", None),
            ("assistant", "I look.", None),
            ("tool", "x.txt", "a"),
            ("tool", "y.txt", "b"),
        ]
        assert [(t.id, t.name, t.parsed) for t in messages[1].tool_calls] == [
            ("a", "bash", {"command": "ls"}),
            ("b", "bash", {"command": "ls"}),
        ]
        assert messages[1].raw["items"][0]["encrypted_content"] == "gAAAA"

    @pytest.mark.parametrize(
        ("item", "text", "ident", "failed"),
        [
            ({"type": "custom_tool_call_output", "call_id": "c", "output": "done"}, "done", "c", None),
            ({"type": "local_shell_call_output", "id": "l", "output": "text"}, "text", "l", None),
            (
                {"type": "shell_call_output", "call_id": "c", "output": [
                    {"stdout": "a\n", "stderr": "b", "outcome": {"type": "exit", "exit_code": 2}}]},
                "exit code: 2\na\n\nb", "c", None,
            ),
            (
                {"type": "shell_call_output", "call_id": "c", "output": [
                    {"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}},
                    {"stdout": "", "stderr": "", "outcome": {"type": "timeout"}}]},
                "command 1: exit code: 0\na\ncommand 2: timeout", "c", None,
            ),
            ({"type": "apply_patch_call_output", "call_id": "c", "status": "failed", "output": "no"}, "no", "c", True),
            ({"type": "apply_patch_call_output", "call_id": "c", "status": "completed"}, "", "c", False),
            (
                {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot"}},
                "[computer_screenshot]", "c", None,
            ),
            ({"type": "mcp_approval_response", "approval_request_id": "r", "approve": True}, "approved", "r", None),
            ({"type": "mcp_approval_response", "approval_request_id": "r", "approve": False}, "refused", "r", None),
            (
                {"type": "tool_search_output", "call_id": "c", "execution": "client", "tools": [{"name": "t"}]},
                "[tools: t]", "c", None,
            ),
        ],
    )  # fmt: skip
    def test_results_of_tools_are_messages_of_tools(
        self, item: dict[str, Any], text: str, ident: str, failed: bool | None
    ) -> None:
        call = read(ANSWER, {"model": "m", "input": [item]})
        assert [(m.role, m.text, m.tool_call_id, m.is_error) for m in call.messages] == [("tool", text, ident, failed)]
        assert call.problems == []

    @pytest.mark.parametrize(
        ("item", "role", "text"),
        [
            ({"type": "item_reference", "id": "msg_7"}, "assistant", "[item_reference msg_7]"),
            ({"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}, "assistant", "[compaction cmp_1]"),
            ({"type": "compaction_trigger"}, "user", "[compaction_trigger]"),
            (
                {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "f"}]},
                "developer", "[tools: f]",
            ),
        ],
    )  # fmt: skip
    def test_items_without_words_are_named(self, item: dict[str, Any], role: str, text: str) -> None:
        call = read(ANSWER, {"model": "m", "input": [item]})
        assert [(m.role, m.text) for m in call.messages] == [(role, text)]
        assert call.problems == []

    def test_an_unknown_item_is_kept_and_named_once(self) -> None:
        odd = {"type": "telepathy", "role": "user", "waves": [1]}
        call = read(ANSWER, {"model": "m", "input": [odd, odd]})
        assert [(m.role, m.text, m.raw) for m in call.messages] == [("user", "[telepathy]", odd)] * 2
        assert call.problems == ["an item of unknown type 'telepathy' in the input"]

    def test_a_long_history_takes_linear_time(self) -> None:
        search = [{"type": "web_search_call", "id": f"ws_{n}", "action": {"query": "q"}} for n in range(9000)]
        given = [{"type": "shell_call_output", "call_id": f"ws_{n}", "output": []} for n in range(9000)]
        words = [said("x" * 500) for _ in range(2000)]
        first, *results = read(ANSWER, {"model": "m", "input": [*search, *words, *given]}).messages
        assert (len(first.tool_calls), len(first.text), len(results)) == (9000, 501 * 2000 - 1, 9000)

    def test_conversation_and_the_response_before_are_named(self) -> None:
        call = read(ANSWER, {**ASK, "conversation": {"id": "conv_1"}})
        assert (call.conversation, call.previous) == ("conv_1", "")
        assert read(ANSWER, {**ASK, "conversation": "conv_2"}).conversation == "conv_2"
        assert read(ANSWER, {**ASK, "previous_response_id": "resp_0"}).previous == "resp_0"

    def test_a_prompt_that_the_provider_keeps_is_named(self) -> None:
        call = read(ANSWER, {"prompt": {"id": "pmpt_1", "variables": {"a": "b"}}})
        assert [(m.role, m.text) for m in call.messages] == [("system", "[prompt pmpt_1]")]

    def test_tools_are_named(self) -> None:
        tools = [
            {"type": "function", "name": "f"}, {"type": "web_search"}, {"type": "mcp", "server_label": "dmcp"},
            {"type": "custom", "name": "patch"}, {"type": "namespace", "name": "crm", "tools": [{"name": "find"}]},
        ]  # fmt: skip
        assert read(ANSWER, {**ASK, "tools": tools}).tools == ["f", "web_search", "dmcp", "patch", "crm", "find"]


class TestWholeAnswers:
    def test_words_thoughts_and_calls(self) -> None:
        call = read(ANSWER)
        assert (call.text, call.reasoning, call.refusal) == ("I list the files.", "I think.", None)
        assert [(t.id, t.name, t.parsed, t.server) for t in call.tool_calls] == [
            ("call_1", "bash", {"command": "ls"}, False)
        ]
        assert (call.response_id, call.response_model, call.finish_reason) == ("resp_1", "m-1-2026", "completed")
        assert call.usage == ANSWER["usage"]
        assert (call.cut, call.streamed, call.problems, call.error) == (False, False, [], None)

    @pytest.mark.parametrize(
        ("item", "ident", "name", "arguments", "server"),
        [
            ({"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls -la"}, "c", "sh", "ls -la", False),
            (
                {"type": "local_shell_call", "id": "l", "call_id": "c", "action": {"command": ["ls", "-la"]}},
                "c", "local_shell", '{"command": ["ls", "-la"]}', False,
            ),
            (
                {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}, "environment": None},
                "c", "shell", '{"commands": ["ls"]}', False,
            ),
            (
                {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]},
                 "environment": {"type": "container_reference", "container_id": "x"}},
                "c", "shell", '{"commands": ["ls"]}', True,
            ),
            (
                {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file", "path": "a"}},
                "c", "apply_patch", '{"type": "delete_file", "path": "a"}', False,
            ),
            (
                {"type": "computer_call", "call_id": "c", "action": {"type": "wait"}},
                "c", "computer", '{"type": "wait"}', False,
            ),
            ({"type": "mcp_call", "id": "mcp_1", "name": "roll", "arguments": "{}"}, "mcp_1", "roll", "{}", True),
            ({"type": "mcp_approval_request", "id": "r", "name": "roll", "arguments": "{}"}, "r", "roll", "{}", True),
            (
                {"type": "web_search_call", "id": "ws", "action": {"type": "search", "query": "q"}},
                "ws", "web_search", '{"type": "search", "query": "q"}', True,
            ),
            ({"type": "file_search_call", "id": "fs", "queries": ["q"]}, "fs", "file_search", '["q"]', True),
            ({"type": "code_interpreter_call", "id": "ci", "code": "1+1"}, "ci", "code_interpreter", "1+1", True),
            (
                {"type": "image_generation_call", "id": "ig", "revised_prompt": "a cat", "result": "AAAA"},
                "ig", "image_generation", "a cat", True,
            ),
            ({"type": "program", "id": "p", "call_id": "c", "code": "f()"}, "c", "program", "f()", True),
            (
                {"type": "tool_search_call", "call_id": None, "id": "t", "execution": "server", "arguments": {"q": 1}},
                "t", "tool_search", '{"q": 1}', True,
            ),
        ],
    )  # fmt: skip
    def test_calls_of_every_kind(
        self, item: dict[str, Any], ident: str, name: str, arguments: str, server: bool
    ) -> None:
        call = read(response("r", "m", [item]))
        assert [(t.id, t.name, t.arguments, t.server) for t in call.tool_calls] == [(ident, name, arguments, server)]
        assert call.problems == []

    def test_an_unknown_call_is_the_client_s_where_it_asks_for_an_answer(self) -> None:
        call = read(
            response("r", "m", [{"type": "x_call", "id": "1", "input": "a"}, {"type": "y_call", "call_id": "2"}])
        )
        assert [(t.id, t.name, t.arguments, t.server) for t in call.tool_calls] == [
            ("1", "x", "a", True),
            ("2", "y", "", False),
        ]
        assert call.problems_total == 2

    def test_what_tools_at_the_provider_gave_is_told(self) -> None:
        output: list[dict[str, Any]] = [
            {"type": "mcp_call", "id": "a", "name": "roll", "arguments": "{}", "output": "4", "error": None},
            {"type": "mcp_call", "id": "b", "name": "roll", "arguments": "{}", "output": None, "error": "no dice"},
            {"type": "code_interpreter_call", "id": "c", "code": "1", "outputs": [{"type": "logs", "logs": "1"}]},
            said("You rolled 4."),
        ]
        call = read(response("r", "m", output))
        results = [("tool", "4", "a", None), ("tool", "no dice", "b", True)]
        results.append(("tool", '[{"type": "logs", "logs": "1"}]', "c", None))
        assert [(m.role, m.text, m.tool_call_id, m.is_error) for m in call.choices[0].results] == results
        later = read(ANSWER, {"model": "m", "input": output}).messages
        assert [m.role for m in later] == ["assistant", "tool", "tool", "tool"]
        assert later[0].text == "You rolled 4."
        assert [(m.role, m.text, m.tool_call_id, m.is_error) for m in later[1:]] == results

    def test_a_refusal_is_no_text(self) -> None:
        refusing = said() | {"content": [{"type": "refusal", "refusal": "I won't."}]}
        call = read(response("r", "m", [refusing]))
        assert (call.text, call.refusal) == ("", "I won't.")

    def test_an_incomplete_answer_says_why(self) -> None:
        why = {"reason": "max_output_tokens"}
        call = read(response("r", "m", [said("x")], "incomplete", incomplete_details=why))
        assert (call.finish_reason, call.cut) == ("max_output_tokens", False)

    def test_a_failed_answer_is_an_error(self) -> None:
        call = read(response("r", "m", [], "failed", error={"code": "server_error", "message": "overloaded"}))
        assert (call.error, call.finish_reason) == ("overloaded", "failed")

    def test_an_answer_in_the_background_is_not_there_yet(self) -> None:
        call = read(response("r", "m", [], "queued"))
        assert (call.finish_reason, call.cut, call.extra["status"]) == (None, False, "queued")

    def test_an_answer_that_is_fetched_later_is_the_decision(self) -> None:
        def fetch(answer: Any, *, url: str = f"{URL}/resp_1", streamed: bool = False) -> ModelCall | None:
            body = answer if streamed else json.dumps(answer).encode()
            return decode_exchange(Exchange("f", "1", "GET", url, status=200, response_body=body))

        ended = {**ANSWER, "background": True}
        call = fetch(ended)
        assert call is not None
        assert (call.text, call.previous, call.messages, call.cut) == ("I list the files.", "resp_1", [], False)
        told = sse(streamed({**ANSWER, "background": True}))
        for body, cut in ((told, False), (told[:-50], True)):
            call = fetch(body, url=f"{URL}/resp_1?stream=true&starting_after=4", streamed=True)
            assert call is not None
            assert (call.text, call.cut) == ("I list the files.", cut)
        assert fetch({**ended, "status": "in_progress", "output": []}) is None
        assert fetch(ANSWER) is None
        assert fetch(ended, url=f"{URL}/resp_1/input_items") is None
        assert fetch({"error": {"message": "no such response"}}) is None

    def test_an_error_of_the_api(self) -> None:
        call = read({"error": {"message": "no such model", "code": "model_not_found"}}, status=404)
        assert (call.error, call.choices, call.cut) == ("no such model", [], False)

    def test_half_an_answer_is_cut(self) -> None:
        call = read(json.dumps(ANSWER).encode()[:90], cut=True)
        assert call.cut
        assert call.problems

    def test_a_compaction_is_a_call_too(self) -> None:
        answer = {"id": "resp_2", "object": "response.compaction", "output": [{"type": "compaction", "id": "cmp_1"}]}
        call = read(answer, url=f"{URL}/compact")
        assert (call.response_id, call.finish_reason, call.cut) == ("resp_2", "completed", False)


class TestStreams:
    def test_a_stream_says_what_the_whole_answer_says(self) -> None:
        call, whole = read(sse(streamed(ANSWER))), read(ANSWER)
        assert call.choices == whole.choices
        assert (call.streamed, call.cut, call.problems) == (True, False, [])
        assert (call.response_id, call.usage) == (whole.response_id, whole.usage)

    def test_a_cut_stream_keeps_its_deltas(self) -> None:
        told = streamed(ANSWER)
        end = next(n for n, e in enumerate(told) if e["type"] == "response.function_call_arguments.done")
        call = read(sse(told[:end]))
        assert (call.text, call.reasoning) == ("I list the files.", "I think.")
        assert [(t.id, t.name, t.arguments) for t in call.tool_calls] == [("call_1", "bash", '{"command": "ls"}')]
        assert (call.cut, call.finish_reason, call.response_id) == (True, None, "resp_1")

    def test_deltas_whose_item_never_came_count(self) -> None:
        told = [e for e in streamed(ANSWER)[2:-1] if "item" not in e and "part" not in e]
        call = read(sse(told))
        assert (call.text, call.reasoning) == ("I list the files.", "I think.")
        assert call.tool_calls[0].arguments == '{"command": "ls"}'
        assert call.cut

    def test_an_end_without_items_does_not_take_them_back(self) -> None:
        told = streamed(ANSWER)
        told[-1] = {**told[-1], "response": {**ANSWER, "output": []}}
        call = read(sse(told))
        assert call.tool_calls[0].name == "bash"
        assert (call.cut, call.problems) == (False, [])

    def test_an_end_that_leaves_something_out_is_named(self) -> None:
        told = streamed(ANSWER)
        told[-1] = {**told[-1], "response": {**ANSWER, "output": ANSWER["output"][:2]}}
        call = read(sse(told))
        assert call.tool_calls[0].name == "bash"
        assert call.problems == ["the answer's end leaves out 1 items that came before"]

    def test_deltas_that_say_something_else_than_the_end_are_named(self) -> None:
        told = [{**e, "delta": "You"} if e.get("delta") == "I l" else e for e in streamed(ANSWER)]
        call = read(sse(told))
        assert call.text == "I list the files."
        assert call.problems == ["the deltas of a text say something else than its end"]

    def test_missing_and_repeated_events_are_named(self) -> None:
        told = streamed(ANSWER)
        call = read(sse([*told[:4], *told[6:9], told[8], *told[9:]]))
        assert {"events 4 to 5 are missing", "event 8 came again, or out of order"} <= set(call.problems)
        assert call.text == "I list the files."

    def test_an_unknown_event_is_kept_and_named_once(self) -> None:
        odd = {"type": "response.telepathy.delta", "delta": "~"}
        call = read(sse([*streamed(ANSWER)[:3], odd, odd, *streamed(ANSWER)[3:]]))
        assert call.problems == ["an event of unknown type 'response.telepathy.delta'"]
        assert call.extra["events"] == [odd, odd]

    def test_an_error_in_the_middle_of_a_stream(self) -> None:
        for error in ({"message": "slow down", "code": "rate_limit"}, {"error": {"message": "slow down"}}):
            call = read(sse([*streamed(ANSWER)[:14], {"type": "error", **error}]))
            assert (call.error, call.cut) == ("slow down", False)
            assert call.reasoning == "I think."

    def test_calls_at_the_provider_show_how_far_they_came(self) -> None:
        search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
        told = streamed(response("r", "m", [search]))
        call = read(sse(told[:5]))
        assert told[4]["type"] == "response.web_search_call.searching"
        assert call.choices[0].message["items"][0]["status"] == "searching"
        assert call.tool_calls[0].server

    def test_commands_of_a_shell_are_put_together(self) -> None:
        shell = {
            "type": "shell_call", "id": "sh_1", "call_id": "c", "status": "completed",
            "action": {"commands": ["ls -la", "pwd"]}, "environment": {"type": "local"},
        }  # fmt: skip
        told = streamed(response("r", "m", [shell]))
        assert read(sse(told)).tool_calls[0].parsed == {"commands": ["ls -la", "pwd"]}
        assert read(sse(told[:-3])).tool_calls[0].parsed == {"commands": ["ls -la", "pwd"]}

    def test_annotations_are_kept_without_the_end(self) -> None:
        told = streamed(response("r", "m", [said("see here")]))
        note = {"type": "url_citation", "url": "https://x.test"}
        event = {"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0}
        call = read(sse([*told[:6], {**event, "annotation": note}, *told[6:7]]))
        assert call.choices[0].message["items"][0]["content"][0]["annotations"] == [note]

    def test_words_that_are_spoken_are_kept(self) -> None:
        spoken = [{"type": "response.audio.transcript.delta", "delta": d} for d in ("Hel", "lo")]
        assert read(sse([*streamed(ANSWER)[:2], *spoken])).extra["transcript"] == "Hello"

    def test_an_event_is_known_by_the_stream_s_own_name_too(self) -> None:
        body = b'event: response.output_text.delta\ndata: {"output_index":0,"content_index":0,"delta":"x"}\n\n'
        assert read(body).text == "x"

    def test_an_endless_number_of_events_takes_linear_time(self) -> None:
        delta = sse(
            [{"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "0123456789"}]
        )
        assert len(read(delta * 20_000).text) == 200_000
        note = {"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0, "annotation": 1}
        begun = sse([{"type": "response.content_part.added", "output_index": 0, "content_index": 0, "part": part("")}])
        (item,) = read(begun + sse([note]) * 20_000).choices[0].message["items"]
        assert len(item["content"][0]["annotations"]) == 20_000

    def test_a_response_that_grows_without_end_does_not(self) -> None:
        call = read(sse([{"type": "response.in_progress", "response": {f"k{n}": n}} for n in range(20_000)]))
        assert len(call.extra) == 100

    def test_places_beyond_reason_are_left_out(self) -> None:
        far = {"type": "response.output_text.delta", "output_index": 10**9, "content_index": 10**9, "delta": "x"}
        assert read(sse([far])).problems_total == 1


class TestRegistry:
    @pytest.mark.parametrize(
        "url",
        [
            "http://10.0.0.1:8080/v1/responses",
            "https://r.test/openai/responses?api-version=2025-04-01-preview",
            "https://r.test/openai/v1/responses",
            "https://chat.test/backend-api/codex/responses",
            "https://odd.test/invoke",
        ],
    )
    def test_it_is_known_by_path_or_shape(self, url: str) -> None:
        assert read(ANSWER, url=url).api == "openai.responses"
        assert read(sse(streamed(ANSWER)), url=url).api == "openai.responses"

    def test_other_traffic_on_such_a_path_is_no_model_call(self) -> None:
        survey = Exchange(
            "f", "1", method="POST", url="https://survey.test/responses", request_body=b'{"answers": [1]}'
        )
        assert decode_exchange(survey) is None
        poll = Exchange("f", "1", method="GET", url=f"{URL}/resp_1", response_body=json.dumps(ANSWER).encode())
        assert decode_exchange(poll) is None


# The vendor's accumulator as the oracle.


@settings(max_examples=150, deadline=None)
@given(answers(), splits(), st.booleans())
def test_agrees_with_the_vendors_accumulator_on_every_field(answer: dict[str, Any], split: Any, named: bool) -> None:
    told = list(events(answer, split))
    call = read(sse(told, named=named))
    assert odd(call) == []
    assert not call.cut
    compare_response(call, final_response(told))
    compare_response(read(answer), as_response(answer))


@settings(max_examples=80, deadline=None)
@given(answers(), splits(), st.data())
def test_a_stream_cut_anywhere_is_read_as_far_as_it_goes(
    answer: dict[str, Any], split: Any, data: st.DataObject
) -> None:
    whole = sse(list(events(answer, split)))
    end = data.draw(st.integers(0, len(whole)))
    part, full = read(whole[:end]), read(whole)
    assert full.text.startswith(part.text)
    assert full.reasoning.startswith(part.reasoning)
    for ours, last in zip(part.tool_calls, full.tool_calls, strict=False):
        assert (ours.id, ours.name) == (last.id, last.name)
    if end < len(whole) - 2:
        assert part.cut or part.error


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KINDS = sorted(
    {e["type"] for e in streamed(ANSWER)} | {"error", "response.shell_call_output_content.delta", "message", "mcp_call"}
)
FIELDS = [
    "type", "input", "output", "item", "part", "content", "summary", "delta", "response", "output_index",
    "content_index", "sequence_number", "arguments", "call_id", "id", "role", "text", "tools", "instructions",
    "conversation", "status",
]  # fmt: skip
alike = st.recursive(
    json_values | st.sampled_from(KINDS) | st.integers(-1, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(alike, st.lists(alike, max_size=4))
def test_nothing_that_either_side_sends_raises(ask: Any, told: list[Any]) -> None:
    for request in (ask, {"model": "m", "input": ask}, [ask]):
        for body in (sse([{"type": e, **(e if isinstance(e, dict) else {})} for e in told]), json.dumps(told).encode()):
            found = decode_exchange(
                Exchange("f", "1", "POST", URL, request_body=json.dumps(request).encode(), response_body=body)
            )
            if found is not None:
                json.dumps([found.text, found.error, found.finish_reason, found.problems, found.tools]).encode()
