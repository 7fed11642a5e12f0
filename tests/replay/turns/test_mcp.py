"""MCP calls in a timeline: under the decision that asked for them, each with its answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.replay.turns.recording import Recording

URL = "https://tools.test/mcp"


def decide(r: Recording, pid: int, name: str, arguments: Any, ident: str = "call_1") -> None:
    """A model call whose answer asks for one tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": ident, "type": "function", "function": function}],
    }
    asked = {"model": "m", "messages": [{"role": "user", "content": f"use {name} ({ident})"}]}
    answer = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    r.request(pid, "POST", "https://model.test/v1/chat/completions", asked, answer)


def call(r: Recording, pid: int, name: str, arguments: Any, result: Any, ident: Any = 1, **params: Any) -> str:
    asked = {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    asked["params"].update(params)
    return r.request(pid, "POST", URL, asked, {"jsonrpc": "2.0", "id": ident, "result": result})


def words(text: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], **more}


def found(r: Recording, turn: int | None = None) -> list[dict[str, Any]]:
    timeline = r.timeline()
    rows = [row for t in timeline["turns"] if turn in (None, t["index"]) for row in t["outputs"]]
    return [row for row in rows + timeline["unexplained"] if row["kind"] == "mcp.call"]


def test_a_call_stands_under_the_decision_that_asked_for_it_even_when_another_came_since() -> None:
    r = Recording()
    agent = r.begin("agent")
    decide(r, agent, "mcp__tools__weather", {"city": "Bern"})
    decide(r, agent, "search", {"q": "x"}, "call_2")
    call(r, agent, "weather", {"city": "Bern"}, words("20 degrees"))
    (row,) = found(r, 1)
    assert row["object"] == "tools/call weather"
    assert row["summary"] == 'tools.test/mcp: {"city": "Bern"} → 20 degrees'
    assert row["edge"]["confidence"] == 0.93
    assert "mcp__tools__weather" in row["edge"]["reason"]
    assert row["flags"] == ["decided"]


def test_other_arguments_than_those_decided_are_told() -> None:
    r = Recording()
    agent = r.begin("agent")
    decide(r, agent, "weather", {"city": "Bern"})
    call(r, agent, "weather", {"city": "Moscow"}, words("-3"))
    (row,) = found(r, 1)
    assert row["edge"]["confidence"] == 0.6
    assert row["edge"]["reason"].endswith("the same tool, with other arguments than these")
    assert row["flags"] == []
    (finding,) = [f for f in r.timeline()["findings"] if f["verdict"] == "ARG_MISMATCH"]
    assert "Bern" in finding["explanation"]
    assert "Moscow" in finding["explanation"]
    assert (finding["turn"], len(finding["refs"])) == (1, 2)


def test_one_more_call_beside_the_decided_one_is_its_process_s_own() -> None:
    r = Recording()
    agent = r.begin("agent")
    decide(r, agent, "weather", {"city": "Bern"})
    call(r, agent, "weather", {"city": "Bern"}, words("20"))
    call(r, agent, "weather", {"city": "Moscow"}, words("-3"))
    first, second = found(r, 1)
    assert first["flags"] == ["decided"]
    assert (second["flags"], second["edge"]["reason"]) == (
        [],
        "in the window after the decision, by the process that received it",
    )
    assert not [f for f in r.timeline()["findings"] if f["verdict"] == "ARG_MISMATCH"]


def test_two_calls_of_one_tool_are_two_decisions() -> None:
    r = Recording()
    agent = r.begin("agent")
    decide(r, agent, "weather", {"city": "Bern"})
    decide(r, agent, "weather", {"city": "Bern"}, "call_2")
    call(r, agent, "weather", {"city": "Bern"}, words("a"))
    call(r, agent, "weather", {"city": "Bern"}, words("b"))
    assert len(found(r, 1)) == len(found(r, 2)) == 1


def test_a_call_that_nothing_decided_stands_where_its_process_does() -> None:
    r = Recording()
    agent = r.begin("agent")
    decide(r, agent, "weather", {"city": "Bern"})
    call(r, agent, "delete_everything", {}, words("done", isError=True))
    (row,) = found(r, 1)
    assert "decided" not in row["flags"]
    assert "failed" in row["flags"]
    assert row["edge"]["confidence"] == 0.5


def test_what_a_server_asks_the_model_has_a_row_of_its_own_and_its_answer() -> None:
    r = Recording()
    agent = r.begin("agent")
    decide(r, agent, "ponder", {})
    sampling = {"messages": [{"role": "user", "content": {"type": "text", "text": "Tell me the key"}}]}
    wants = {"inputRequests": {"a": {"method": "sampling/createMessage", "params": sampling}}, "requestState": "s"}
    call(r, agent, "ponder", {}, {"resultType": "input_required", **wants})
    given = {"a": {"role": "assistant", **words("it is 42")}}
    call(r, agent, "ponder", {}, words("thanks"), 2, inputResponses=given, requestState="s")
    first, asked, again = found(r)
    assert "wants to be told first" in first["summary"]
    assert asked["object"] == "sampling/createMessage"
    assert asked["summary"] == "tools.test/mcp: Tell me the key → it is 42"
    assert asked["flags"] == ["asks", "decided"]
    assert again["summary"].endswith("again, with what the server wanted to be told → thanks")


def test_an_answer_on_another_exchange_is_brought_to_its_question() -> None:
    r = Recording()
    agent = r.begin("agent")
    where = "https://tools.test/messages?session_id=x"
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "late", "arguments": {"a": 1}}}
    r.request(agent, "POST", where, asked, None, status=202)
    assert found(r)[0]["summary"].endswith("→ no answer was seen")
    answer = {"jsonrpc": "2.0", "id": 1, "result": words("here")}
    r.request(agent, "POST", where, {"jsonrpc": "2.0", "method": "ping", "id": 3}, [answer])
    assert found(r)[0]["summary"].endswith("→ here")


def test_a_call_that_was_refused_says_by_what_words() -> None:
    r = Recording()
    agent = r.begin("agent")
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {}}}
    r.request(agent, "POST", URL, asked, "not for you", status=403)
    (row,) = found(r)
    unread = "the answer is neither JSON nor a stream of events"
    assert row["summary"] == f'tools.test/mcp: "not for you"; {unread}'
    assert (row["flags"], row["result"]) == (["cut", "failed"], 403)


def conversation(r: Recording, agent: int, told: str, **answered: Any) -> list[dict[str, Any]]:
    """A decision, the MCP call that carries it out, and what the model is told; the findings."""
    asked = [{"role": "user", "content": "look it up for me, please"}]
    function = {"name": "lookup", "arguments": "{}"}
    message = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }

    def ask(messages: list[Any], said: dict[str, Any]) -> None:
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        body = {"model": "m", "messages": messages}
        r.request(
            agent,
            "POST",
            "https://m.test/v1/chat/completions",
            body,
            {"object": "chat.completion", "choices": [choice]},
        )

    ask(asked, message)
    call(r, agent, "lookup", {}, answered)
    ask(
        [*asked, message, {"role": "tool", "tool_call_id": "c1", "content": told}],
        {"role": "assistant", "content": "so"},
    )
    return [f for f in r.timeline()["findings"] if f["verdict"] in ("RESULT_MISMATCH", "HISTORY_MISMATCH")]


ANSWER = "The balance of the account is 1,204.55 francs.\nNo transfer is under way, said Zoë."


@pytest.mark.parametrize(
    "told",
    [
        ANSWER,
        f"<result>{ANSWER}</result>",
        json.dumps(words(ANSWER)),
        json.dumps(words(ANSWER), ensure_ascii=False, indent=2),
        ANSWER[:50],
    ],
)
def test_a_result_that_the_model_was_told_is_not_remarked_on(told: str) -> None:
    r = Recording()
    assert conversation(r, r.begin("agent"), told, **words(ANSWER)) == []


@pytest.mark.parametrize(
    ("told", "severity"),
    [
        ("All is well, the transfer was made this morning.", "high"),
        ("The balance of the account is 9,999.99 francs.\nA transfer is under way, said Zoë.", "medium"),
    ],
)
def test_a_result_that_the_model_was_told_otherwise_is_a_finding(told: str, severity: str) -> None:
    r = Recording()
    (finding,) = conversation(r, r.begin("agent"), told, **words(ANSWER))
    assert (finding["verdict"], finding["severity"], finding["turn"]) == ("RESULT_MISMATCH", severity, 2)
    assert "1,204.55" in finding["explanation"]
    assert len(finding["refs"]) == 2


@pytest.mark.parametrize("gap", [False, True])
def test_a_result_of_a_tool_that_was_not_called_is_a_finding(gap: bool) -> None:
    r = Recording()
    agent = r.begin("agent")
    asked: list[Any] = [{"role": "user", "content": "what is on the account?"}]

    def ask(*tools: tuple[str, str]) -> None:
        calls = [{"id": i, "type": "function", "function": {"name": name, "arguments": "{}"}} for i, name in tools]
        said = {"role": "assistant", "content": "so", **({"tool_calls": calls} if calls else {})}
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        body = {"model": "m", "messages": list(asked)}
        answer = {"object": "chat.completion", "choices": [choice]}
        r.request(agent, "POST", "https://m.test/v1/chat/completions", body, answer)
        asked.append(said)

    ask(("c1", "balance"))
    call(r, agent, "balance", {}, words(ANSWER))
    asked.append({"role": "tool", "tool_call_id": "c1", "content": ANSWER})
    ask(("c2", "balance"), ("c3", "bash"))
    asked.append({"role": "tool", "tool_call_id": "c2", "content": "9,000 francs"})
    asked.append({"role": "tool", "tool_call_id": "c3", "content": "this one is no tool of the protocol"})
    ask()
    if gap:
        r.add("gap", source="gateway", detail={"cause": "restart"})
    (finding,) = [f for f in r.timeline()["findings"] if "was not called" in f["title"]]
    assert (finding["verdict"], finding["severity"]) == (("UNOBSERVABLE", "low") if gap else ("PHANTOM", "medium"))
    assert finding["turn"] == 3
    assert "9,000 francs" in finding["explanation"]


def test_headers_that_contradict_the_body_are_a_finding() -> None:
    r = Recording()
    agent = r.begin("agent")
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    call(r, agent, "weather", {}, words("fine"), _meta=meta)
    (finding,) = [f for f in r.timeline()["findings"] if f["verdict"] == "ARG_MISMATCH"]
    assert "the header Mcp-Method is not there" in finding["explanation"]
    assert "did not refuse" in finding["explanation"]
    assert found(r)[0]["flags"] == ["mismatch"]


def test_what_was_left_out_of_an_exchange_is_said_in_its_first_row() -> None:
    r = Recording()
    agent = r.begin("agent")
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "weather", "arguments": {}}}
    r.request(agent, "POST", URL, [asked, asked, 7], {"jsonrpc": "2.0", "id": 1, "result": words("rain")})
    first, second = [row["summary"] for row in found(r)]
    assert first == (
        "tools.test/mcp: rain; two requests of the id 1, of which neither was answered yet; "
        "a message that is neither a request nor an answer"
    )
    assert second == "tools.test/mcp: no answer was seen"


def test_every_call_of_a_batch_carries_out_a_decision() -> None:
    r = Recording()
    agent = r.begin("agent")
    tools = [("c1", {"city": "Bern"}), ("c2", {"city": "Oslo"})]
    said: dict[str, Any] = {"role": "assistant", "content": "I look."}
    said["tool_calls"] = [
        {"id": ident, "type": "function", "function": {"name": "weather", "arguments": json.dumps(asked)}}
        for ident, asked in tools
    ]
    asked: list[Any] = [{"role": "user", "content": "how is the weather?"}]

    def ask(message: dict[str, Any]) -> None:
        answer = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        body = {"model": "m", "messages": list(asked)}
        r.request(agent, "POST", "https://m.test/v1/chat/completions", body, answer)
        asked.append(message)

    ask(said)
    batch = [
        {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": {"name": "weather", "arguments": given}}
        for ident, given in tools
    ]
    answers = [{"jsonrpc": "2.0", "id": ident, "result": words(f"rain, {ident}")} for ident, _ in tools]
    r.request(agent, "POST", URL, batch, answers)
    asked += [{"role": "tool", "tool_call_id": ident, "content": f"rain, {ident}"} for ident, _ in tools]
    ask({"role": "assistant", "content": "It rains."})
    assert r.timeline()["findings"] == []


def test_a_long_result_that_the_agent_made_short_is_less_grave() -> None:
    r = Recording()
    long = " ".join(f"line{n} of what was found" for n in range(400))
    (finding,) = conversation(r, r.begin("agent"), "Too long to be shown: it lies in a file.", **words(long))
    assert (finding["verdict"], finding["severity"]) == ("RESULT_MISMATCH", "medium")
