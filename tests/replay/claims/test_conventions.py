"""One conversation, told by five instrumentations in their own words, is one and the same claim."""

from __future__ import annotations

from typing import Any

import pytest

from tests.replay.claims.exports import recorded, span

SPANS = ("openinference-1", "openllmetry-1", "openllmetry-2025-1", "genai-latest-1")
CALL = {"id": "call_1", "name": "bash", "arguments": '{"command":"ls /tmp"}'}


@pytest.mark.parametrize("name", SPANS)
def test_a_tool_call_and_its_answer_read_the_same_in_every_convention(name: str) -> None:
    first, second = recorded(f"{name}.traces")
    for claim, number in ((first, 1), (second, 2)):
        assert claim["operation"] == "chat"
        assert claim["provider"].lower() == "openai"
        assert claim["response_id"] == f"chatcmpl-{number}"
        assert claim["response_model"] == "scripted-1-2026"
        assert claim["usage"]["input"] == 11
        assert claim["usage"]["output"] == 7
        assert 0 < claim["start_ns"] < claim["end_ns"]
    assert [(m["role"], m["text"]) for m in first["input"]] == [
        ("system", "You are careful."),
        ("user", "What is in /tmp?"),
    ]
    (decided,) = first["output"]
    assert (decided["role"], decided["tool_calls"]) == ("assistant", [CALL])
    assert second["input"][2]["tool_calls"] == [CALL]
    told = second["input"][3]
    assert (told["role"], told["text"], told["tool_call_id"]) == ("tool", "(empty)", "call_1")
    assert second["output"][0]["text"] == "There is nothing in /tmp."
    assert first["finish_reasons"][0].startswith("tool_call")
    assert second["finish_reasons"] == ["stop"]


def test_compressed_exports_read_the_same() -> None:
    assert recorded("genai-latest-1.traces", zipped=True) == recorded("genai-latest-1.traces")


def test_the_event_that_holds_all_of_an_inference_reads_like_its_span() -> None:
    of_span, of_event = recorded("genai-latest-1.traces")[1], recorded("genai-latest-2.logs")[1]
    for key in ("operation", "provider", "model", "response_id", "input", "output", "usage", "finish_reasons", "span"):
        assert of_event[key] == of_span[key], key


def test_before_1_37_each_message_is_an_event_of_its_own() -> None:
    spans, events = recorded("genai-1.traces"), recorded("genai-2.logs")
    assert [claim["provider"] for claim in spans] == ["openai", "openai"]
    said = [(event.get("input") or event["output"])[0] for event in events]
    assert [message["role"] for message in said] == [
        *("system", "user", "assistant"),
        *("system", "user", "assistant", "tool", "assistant"),
    ]
    assert said[2]["tool_calls"] == said[5]["tool_calls"] == [CALL]
    assert said[6]["tool_call_id"] == "call_1"
    assert said[7]["text"] == "There is nothing in /tmp."
    # The span's id joins them.
    assert [event["span"] for event in events[:3]] == [spans[0]["span"]] * 3


TOOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "genai": (
        "execute_tool bash",
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "bash",
            "gen_ai.tool.call.id": "call_1",
            "gen_ai.tool.call.arguments": {"command": "ls"},
            "gen_ai.tool.call.result": "nothing",
        },
    ),
    "openllmetry": (
        "bash.tool",
        {
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": "bash",
            "traceloop.entity.input": '{"command":"ls"}',
            "traceloop.entity.output": "nothing",
        },
    ),
    "openinference": (
        "bash",
        {
            "openinference.span.kind": "TOOL",
            "tool.name": "bash",
            "tool.id": "call_1",
            "input.value": '{"command":"ls"}',
            "output.value": "nothing",
        },
    ),
    "mcp": (
        "tools/call bash",
        {
            "mcp.method.name": "tools/call",
            "gen_ai.tool.name": "bash",
            "gen_ai.tool.call.arguments": '{"command":"ls"}',
            "gen_ai.tool.call.result": "nothing",
            "mcp.session.id": "m1",
        },
    ),
}


@pytest.mark.parametrize("convention", TOOLS)
def test_the_run_of_a_tool(convention: str) -> None:
    name, told = TOOLS[convention]
    claim = span(told, name)
    assert claim["operation"] == "execute_tool"
    tool = claim["tool"]
    assert (tool["name"], tool["arguments"], tool["result"]) == ("bash", '{"command":"ls"}', "nothing")
    assert tool.get("id") in ("call_1", None)


@pytest.mark.parametrize(
    ("told", "operation", "agent"),
    [
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "coder"}, "invoke_agent", "coder"),
        ({"traceloop.span.kind": "agent", "traceloop.entity.name": "coder"}, "invoke_agent", "coder"),
        ({"openinference.span.kind": "AGENT", "agent.name": "coder"}, "invoke_agent", "coder"),
        ({"traceloop.span.kind": "workflow", "traceloop.entity.name": "all"}, "invoke_workflow", None),
    ],
)
def test_agents_and_workflows(told: dict[str, Any], operation: str, agent: str | None) -> None:
    claim = span(told)
    assert claim["operation"] == operation
    assert claim.get("agent", {}).get("name") == agent


def test_events_of_a_span_hold_its_messages_in_older_instrumentations() -> None:
    prompt = ("gen_ai.content.prompt", {"gen_ai.prompt": '[{"role":"user","content":"hello"}]'})
    answer = ("gen_ai.content.completion", {"gen_ai.completion": '[{"role":"assistant","content":"hi"}]'})
    claim = span({"gen_ai.system": "openai", "gen_ai.operation.name": "chat"}, events=[prompt, answer])
    assert (claim["input"][0]["text"], claim["output"][0]["text"]) == ("hello", "hi")
    again = span(
        {"gen_ai.system": "x"}, events=[("gen_ai.user.message", {"gen_ai.event.content": '{"content":"hey"}'})]
    )
    assert again["input"] == [{"role": "user", "text": "hey"}]


def test_an_error_is_told_and_an_unknown_attribute_is_kept() -> None:
    raised = ("exception", {"exception.message": "no such model"})
    claim = span({"gen_ai.operation.name": "chat", "acme.tenant": "t1"}, events=[raised])
    assert claim["error"] == "no such model"
    assert claim["more"]["acme.tenant"] == "t1"


def test_a_span_of_something_else_is_a_claim_too() -> None:
    claim = span({"http.request.method": "GET"}, "GET /")
    assert claim["name"] == "GET /"
    assert "operation" not in claim
    assert claim["more"] == {"http.request.method": "GET"}
