"""Real clients of model APIs in real sandboxes, each through one conversation with a tool, streamed.

All that the scripted server was sent and said is in the timeline, and nothing else is.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import parts
from tests.boundary.sandboxed import Run, record
from tests.boundary.scripted import anthropic, bedrock, gemini, story
from tests.boundary.scripted.openai import called, completion, response, said
from tests.boundary.scripted.openai_server import ScriptedOpenAI
from tests.boundary.scripted.server import scripted
from tests.collector.gateway.test_mcp import serving as mcp_server

pytestmark = pytest.mark.needs("root", "runsc", "ip", "nft", "conntrack")

FIRST, LAST, THOUGHT = "".join(story.FIRST), "".join(story.LAST), "".join(story.THOUGHT)


@dataclass(frozen=True)
class Bodies:
    """What one exchange was on the wire: digests of what was asked and what was answered."""

    asked: str
    answered: str


Passed = list[Bodies]


def digests(asked: bytes, *answered: bytes) -> Bodies:
    return Bodies(hashlib.sha256(asked).hexdigest(), hashlib.sha256(b"".join(answered)).hexdigest())


@contextmanager
def openai_server(*answers: dict[str, Any]) -> Iterator[tuple[str, Passed]]:
    passed: Passed = []
    with ScriptedOpenAI(answers).running() as server:
        yield server.url, passed
    passed += [digests(one.asked, *one.sent) for one in server.exchanged if one.over == "http"]


@contextmanager
def story_server(reply: Any) -> Iterator[tuple[str, Passed]]:
    passed: Passed = []
    with scripted(reply) as server:
        yield server.url, passed
    passed += [digests(one.request_body, one.response_body) for one in server.passed]


def chat() -> contextlib.AbstractContextManager[tuple[str, Passed]]:
    return openai_server(
        completion("c1", "gpt-test", FIRST, (story.TOOL, story.ARGUMENTS)), completion("c2", "gpt-test", LAST)
    )


def responses() -> contextlib.AbstractContextManager[tuple[str, Passed]]:
    first = [said(FIRST), called(story.TOOL, story.ARGUMENTS, story.CALL_ID)]
    return openai_server(response("r1", "gpt-test", first), response("r2", "gpt-test", [said(LAST)]))


OPENAI = {"OPENAI_API_KEY": "sk-test-0000", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
CLIENTS: dict[str, tuple[str, Any, dict[str, str], str]] = {
    "chat": ("api.openai.com", chat, OPENAI, "openai.chat"),
    "responses": ("api.openai.com", responses, OPENAI, "openai.responses"),
    "websocket": ("api.openai.com", responses, OPENAI, "openai.responses"),
    "agents_sdk": ("api.openai.com", responses, OPENAI, "openai.responses"),
    "messages": (
        "api.anthropic.com", lambda: story_server(anthropic.reply), {"ANTHROPIC_API_KEY": "sk-ant-0000"},
        "anthropic.messages",
    ),
    "gemini": (
        "generativelanguage.googleapis.com", lambda: story_server(gemini.reply), {"GEMINI_API_KEY": "AIza-0000"},
        "gemini.generateContent",
    ),
    "converse": (
        "bedrock-runtime.us-east-1.amazonaws.com", lambda: story_server(bedrock.reply),
        {"AWS_ACCESS_KEY_ID": "AKIDTEST", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"},
        "bedrock.converse",
    ),
}  # fmt: skip


@pytest.mark.parametrize("client", CLIENTS)
def test_a_streamed_conversation_with_a_tool_is_told_whole(home: Path, runsc: parts.Runsc, client: str) -> None:
    host, serving, keys, api = CLIENTS[client]
    with serving() as (url, passed):
        run = record(home, runsc, "python", f"/clients/{client}.py", upstreams={host: url}, env=keys)
    assert run.status == 0, run.errors
    assert run.printed.strip() == LAST

    asked, answered = run.turns
    for turn in run.turns:
        assert turn["input"]["api"] == api
        assert turn["decision"]["streamed"]
        assert turn["decision"]["finish_reason"]
        assert not turn["decision"]["problems"]
        assert (turn["decision"]["cut"], turn["decision"]["error"]) == (False, None)
    shown = [(m["role"], m["text"]) for m in asked["input"]["new_messages"]]
    assert shown == [("system", story.SYSTEM), ("user", story.QUESTION)]
    assert asked["decision"]["text"] == FIRST
    (call,) = asked["decision"]["tool_calls"]
    assert (call["name"], json.loads(call["arguments"]), call["server"]) == (story.TOOL, story.ARGUMENTS, False)
    assert asked["decision"]["commands"] == [story.ARGUMENTS["command"]]
    results = [m for m in answered["input"]["new_messages"] if m["role"] == "tool"]
    assert [m["tool_call_id"] for m in results] == [call["id"]]
    assert "a.txt b.txt" in results[0]["text"]
    assert answered["decision"]["text"] == LAST
    assert not answered["decision"]["tool_calls"]
    assert asked["thread"] == answered["thread"]

    assert not [f for f in run.timeline["findings"] if f["severity"] == "high"], run.timeline["findings"]
    assert any(row["kind"] == "process.exec" and "decided" in row["flags"] for row in asked["outputs"])
    _nothing_else(run, host, upgrades=client == "websocket")
    if client != "websocket":
        assert sorted(_recorded(run), key=str) == sorted(passed, key=str)


def test_a_call_by_curl_is_a_turn(home: Path, runsc: parts.Runsc) -> None:
    asked = json.dumps({"model": "gpt-test", "stream": True, "messages": [{"role": "user", "content": "Hello?"}]})
    with openai_server(completion("c1", "gpt-test", LAST)) as (url, passed):
        command = ["curl", "--silent", "--no-buffer", "https://api.openai.com/v1/chat/completions", "--data", asked]
        run = record(home, runsc, *command, upstreams={"api.openai.com": url}, env={})
    (turn,) = run.turns
    assert [(m["role"], m["text"]) for m in turn["input"]["new_messages"]] == [("user", "Hello?")]
    assert (turn["decision"]["text"], turn["decision"]["finish_reason"]) == (LAST, "stop")
    assert "[DONE]" in run.printed
    _nothing_else(run, "api.openai.com")
    assert _recorded(run) == passed


def test_a_call_of_a_tool_by_the_context_protocol_is_an_output(home: Path, runsc: parts.Runsc) -> None:
    with mcp_server("http", home / "mcp.log") as url:
        command = ["python", "/clients/mcp_client.py", "https://mcp.test/mcp"]
        run = record(home, runsc, *command, upstreams={"mcp.test": url}, env={})
    assert run.status == 0, run.errors
    assert json.loads(run.printed) == {"city": "Ghent", "degrees": 21}
    assert not run.turns
    rows = run.rows("mcp.call")
    called_ = [row for row in rows if "tools/call" in row["object"]]
    assert len(called_) == 1, rows
    assert "weather" in called_[0]["object"]
    assert "Ghent" in called_[0]["summary"]
    assert {frame["url"].split("/")[2].partition(":")[0] for frame in run.gateway("request")} == {"mcp.test"}


def _nothing_else(run: Run, host: str, *, upgrades: bool = False) -> None:
    """No exchange with anybody but the model, and none that is no turn, but for the beginning of a WebSocket."""
    asked = run.gateway("request")
    assert {frame["url"].split("/")[2].partition(":")[0] for frame in asked} == {host}
    assert [row["result"] for row in run.rows("http.")] == ([101] if upgrades else []), run.rows("http.")


def _recorded(run: Run) -> Passed:
    """The exchanges as the gateway has recorded them, by the digests of all of their bytes."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for frame in run.gateway("request", "response", "chunk"):
        one = found.setdefault((frame["flow"], frame["id"]), {"chunks": b""})
        if frame["t"] == "chunk":
            one["chunks"] += base64.b64decode(frame["data"])
        else:
            one[frame["t"]] = frame
    for one in found.values():
        # What is kept is what passed, not only its digest.
        body = one["chunks"] or base64.b64decode(one["response"]["body"])
        assert hashlib.sha256(body).hexdigest() == one["response"]["body_sha256"]
        assert not one["response"]["cut"]
    return [Bodies(one["request"]["body_sha256"], one["response"]["body_sha256"]) for one in found.values()]
