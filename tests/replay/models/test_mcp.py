from __future__ import annotations

import gzip
import json
from typing import Any

import mcp_types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.shared.inbound import decode_header_value, encode_header_value
from mcp_types import jsonrpc_message_adapter

from sandtrail.replay.models import Exchange
from sandtrail.replay.models.mcp import McpCall, McpExchange, decode_mcp
from sandtrail.replay.models.mcp_headers import plain_value

URL = "https://tools.test/mcp"
EVENTS = [("content-type", "text/event-stream")]


def exchange(asked: Any, answered: Any = b"", method: str = "POST", **more: Any) -> Exchange:
    def body(value: Any) -> bytes:
        return value if isinstance(value, bytes) else json.dumps(value).encode()

    headers = more.pop("headers", [])
    return Exchange(
        "f",
        "1",
        method=method,
        url=more.pop("url", URL),
        request_headers=headers,
        request_body=body(asked),
        response_body=body(answered),
        status=more.pop("status", 200),
        response_done=more.pop("done", True),
        **more,
    )


def read(*args: Any, **more: Any) -> McpExchange:
    found = decode_mcp(exchange(*args, **more))
    assert found is not None
    return found


def events(*messages: Any) -> bytes:
    return b"".join(f"event: message\ndata: {json.dumps(message)}\n\n".encode() for message in messages)


def ask(ident: Any, method: str = "tools/call", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "method": method, "params": params}


def answer(ident: Any, result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "result": result}


def words(text: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], **more}


def test_a_batch_is_answered_in_any_order() -> None:
    asked = [ask(1, name="a"), ask("1", name="b"), {"jsonrpc": "2.0", "method": "notifications/initialized"}]
    said = read(asked, [answer("1", words("second")), answer(1, words("first"))])
    assert [(call.name, call.text) for call in said.calls] == [("a", "first"), ("b", "second"), ("", "")]
    assert not said.cut


def test_a_stream_that_ends_before_the_answer_is_cut_and_keeps_what_came() -> None:
    token: dict[str, Any] = {"_meta": {"progressToken": 5}}
    progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 5, "progress": 1}}
    said = read(ask(1, name="a", **token), events(progress, progress), response_headers=EVENTS, error="went away")
    (call,) = said.calls
    assert (call.progress, call.answered, said.cut, said.error) == (2, False, True, "went away")


def test_what_the_server_asks_is_its_own_and_has_ids_of_its_own() -> None:
    sampling = ask(1, "sampling/createMessage", messages=[{"role": "user", "content": words("think")["content"][0]}])
    said = read(ask(1, name="a"), events(sampling, answer(1, words("done"))), response_headers=EVENTS)
    call, asked = said.calls
    assert (call.name, call.text, call.from_server) == ("a", "done", False)
    assert (asked.method, asked.from_server, asked.answered) == ("sampling/createMessage", True, False)


def test_a_server_that_wants_to_be_told_first_says_what() -> None:
    wanted = {"resultType": "input_required", "requestState": "s1"}
    wanted["inputRequests"] = {"who": {"method": "elicitation/create", "params": {"message": "Who are you?"}}}  # type: ignore[assignment]
    (call,) = read(ask(1, name="a"), answer(1, wanted)).calls
    assert list(call.wants) == ["who"]
    assert call.wants["who"].from_server
    assert call.wants["who"].method == "elicitation/create"


def test_two_requests_of_one_id_are_answered_one_after_the_other_and_named() -> None:
    said = read([ask(1, name="a"), ask(1, name="b")], events(answer(1, words("x")), answer(1, words("y"))))
    assert [(call.name, call.text) for call in said.calls] == [("a", "x"), ("b", "y")]
    assert said.problems == ["two requests of the id 1, of which neither was answered yet"]


def test_a_second_answer_to_a_request_is_named_and_the_first_stands() -> None:
    said = read(ask(1, name="a"), events(answer(1, words("x")), answer(1, words("y"))))
    assert [call.text for call in said.calls] == ["x"]
    assert said.problems == ["another answer to the request 1; the first stands"]


def test_an_error_that_names_no_request_is_of_none() -> None:
    refused = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}}
    said = read([{"jsonrpc": "2.0", "method": "notifications/initialized"}, ask(1, name="a")], refused)
    assert [call.answered for call in said.calls] == [False, False]
    assert (said.error, said.cut) == ("Parse error", True)


def test_long_ids_are_told_apart() -> None:
    one, other = "x" * 300 + "1", "x" * 300 + "2"
    said = read([ask(one, name="a"), ask(other, name="b")], [answer(other, words("of b"))])
    assert [call.text for call in said.calls] == ["", "of b"]


def test_a_page_in_place_of_an_answer_is_told() -> None:
    said = read(ask(1, name="a"), b"<html>log in</html>", response_headers=[("content-type", "text/html")])
    assert (said.error, said.cut) == ("<html>log in</html>", True)
    packed = gzip.compress(b"no such session")
    said = read(ask(1, name="a"), packed, status=404, response_headers=[("content-encoding", "gzip")])
    assert said.error == "no such session"


def test_messages_beyond_those_that_are_kept_are_counted() -> None:
    more = [{"jsonrpc": "2.0", "method": "notifications/message"} for _ in range(1500)]
    said = read([ask(1, name="a"), *more], events(*(answer(n, {}) for n in range(2, 1102))), response_headers=EVENTS)
    assert said.problems == ["601 messages are left out: more than 1000 of a kind"]


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([("Mcp-Method", "tools/call"), ("Mcp-Name", "a"), ("MCP-Protocol-Version", "2026-07-28")], []),
        (
            [("Mcp-Method", "tools/list"), ("Mcp-Name", "a"), ("MCP-Protocol-Version", "2026-07-28")],
            ["the header Mcp-Method says 'tools/list', the body says 'tools/call'"],
        ),
        (
            [("Mcp-Method", "tools/call"), ("MCP-Protocol-Version", "2026-07-28")],
            ["the header Mcp-Name is not there, the body says 'a'"],
        ),
        (
            [("Mcp-Method", "tools/call"), ("Mcp-Name", "=?base64?YQ==?="), ("MCP-Protocol-Version", "2025-11-25")],
            ["the header MCP-Protocol-Version says '2025-11-25', the body says '2026-07-28'"],
        ),
    ],
)
def test_headers_are_held_against_the_body(headers: list[tuple[str, str]], told: list[str]) -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    assert read(ask(1, name="a", _meta=meta), answer(1, {}), headers=headers).mismatches == told


@pytest.mark.parametrize(
    ("value", "fits"), [("eu-west", True), ("42", True), ("42.0", True), ("true", True), ("us", False), ("43", False)]
)
def test_a_repeated_parameter_has_to_be_an_argument(value: str, fits: bool) -> None:
    arguments = {"where": {"region": "eu-west"}, "count": 42, "deep": [True]}
    headers = [("Mcp-Method", "tools/call"), ("Mcp-Name", "a"), ("Mcp-Param-X", value)]
    headers.append(("MCP-Protocol-Version", "2026-07-28"))
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    said = read(ask(1, name="a", arguments=arguments, _meta=meta), answer(1, {}), headers=headers)
    assert bool(said.mismatches) is not fits


def test_older_revisions_repeat_nothing_and_contradict_nothing() -> None:
    said = read(ask(1, name="a"), answer(1, {}), headers=[("MCP-Protocol-Version", "2025-06-18")])
    assert (said.mismatches, said.version) == ([], "2025-06-18")


def test_other_json_rpc_and_other_streams_are_not_taken() -> None:
    assert decode_mcp(exchange(ask(1, "eth_call"), answer(1, "0x"))) is None
    assert decode_mcp(exchange(b"", b"data: {}\n\n", "GET", response_headers=EVENTS)) is None
    assert decode_mcp(exchange({"method": "tools/call"}, {})) is None
    assert decode_mcp(exchange(b"", b"", "DELETE")) is None


def test_a_session_ends_and_an_error_of_http_is_told() -> None:
    session = [("Mcp-Session-Id", "s1")]
    assert read(b"", b"", "DELETE", headers=session).kind == "end"
    said = read(ask(1, name="a"), b"no such session", headers=session, status=404)
    assert (said.session, said.error) == ("s1", "no such session")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=8), values, max_size=4)
ids = st.integers(-(1 << 31), 1 << 31) | st.text(max_size=10)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(ids, st.text(min_size=1, max_size=12), objects, objects),
        max_size=6,
        unique_by=lambda c: json.dumps(c[0]),
    ),
    st.booleans(),
)
def test_what_the_packages_own_types_write_is_read_back(
    told: list[tuple[Any, str, dict[str, Any], dict[str, Any]]], streamed: bool
) -> None:
    requests = [
        mcp_types.JSONRPCRequest(
            jsonrpc="2.0", id=ident, method="tools/call", params={"name": name, "arguments": given}
        )
        for ident, name, given, _ in told
    ]
    results = [
        mcp_types.JSONRPCResponse(
            jsonrpc="2.0",
            id=ident,
            result=mcp_types.CallToolResult(content=[], structured_content=structured).model_dump(by_alias=True),
        )
        for ident, _, _, structured in told
    ]
    asked = [request.model_dump(mode="json") for request in requests]
    answered = [result.model_dump(mode="json") for result in reversed(results)]
    for message in asked + answered:
        jsonrpc_message_adapter.validate_python(message)
    said = decode_mcp(
        exchange(asked, events(*answered) if streamed else answered, response_headers=EVENTS if streamed else [])
    )
    if not told:
        assert said is None
        return
    assert said is not None
    assert [(call.name, call.arguments, call.structured) for call in said.calls] == [
        (name, given, structured) for _, name, given, structured in told
    ]
    assert not said.cut


hostile = st.one_of(
    values,
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "jsonrpc": st.just("2.0"),
                "id": values,
                "method": st.sampled_from(["tools/call", "initialize", "notifications/progress", "ping"]) | values,
                "params": objects
                | st.fixed_dictionaries({"name": values, "_meta": values, "inputResponses": values})
                | values,
                "result": st.fixed_dictionaries(
                    {
                        "content": values,
                        "inputRequests": st.dictionaries(
                            st.text(max_size=3), st.fixed_dictionaries({"method": values, "params": values}), max_size=2
                        ),
                    }
                )
                | values,
                "error": values,
            },
        ),
        max_size=4,
    ),
)


@settings(deadline=None)
@given(hostile, hostile, st.booleans(), st.sampled_from(["POST", "GET", "DELETE", "PUT"]))
def test_nothing_makes_it_raise(asked: Any, answered: Any, streamed: bool, method: str) -> None:
    headers = [("mcp-session-id", "x"), ("mcp-method", "tools/call"), ("mcp-param-a", "=?base64?!?=")]
    said = decode_mcp(
        exchange(asked, events(answered) if streamed else answered, method, headers=headers, response_headers=EVENTS)
    )
    for call in said.calls if said is not None else []:
        assert isinstance(call, McpCall)
        json.dumps([call.name, call.text, call.error, call.method, call.id], ensure_ascii=False).encode()


@settings(deadline=None)
@given(st.text())
def test_coded_header_values_are_read_or_refused(text: str) -> None:
    assert plain_value(encode_header_value(text)) == text
    if decode_header_value(text) is not None:
        assert plain_value(text) == text or text.startswith("=?base64?")
