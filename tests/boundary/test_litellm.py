"""Calls through a real LiteLLM proxy, told by its callback and by its log: what it says becomes turns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, DefaultHttpxClient, OpenAI

from tests.boundary.litellm_proxy import MASTER, UPSTREAM, ingesting, litellm, timeline, wait_for
from tests.boundary.scripted.openai import called, completion, response, said
from tests.boundary.scripted.openai_server import Exchanged, ScriptedOpenAI
from tests.collector.gateway.harness import Gateway
from tests.conftest import new_home

TASK = "count the files"
TOOLS: Any = [{"type": "function", "function": {"name": "run", "parameters": {"type": "object", "properties": {}}}}]
ANSWERS = [
    completion("chatcmpl-1", "scripted", "I will look.", ("run", {"command": "ls"})),
    completion("chatcmpl-2", "scripted", "There is one."),
    response("resp_1", "scripted", [said("Let me see."), called("run", {"command": "ls /srv"}, "call_9")]),
    completion("chatcmpl-4", "scripted", "Seen by both.", ("run", {"command": "id"})),
]


@dataclass
class Story:
    """What was done, and what the record says of it."""

    home: Path
    asked: list[Exchanged]
    direct: dict[str, Any]
    both: dict[str, Any]

    def turns(self, told: dict[str, Any]) -> list[dict[str, Any]]:
        return [turn for turn in told["turns"] if turn["kind"] == "model"]


def converse(client: OpenAI, user: str) -> None:
    """A conversation with a tool, its second half streamed; one over Responses; one that fails comes last."""
    messages: list[Any] = [{"role": "system", "content": "be brief"}, {"role": "user", "content": TASK}]
    first = client.chat.completions.create(model="m", messages=messages, tools=TOOLS, user=user)
    message = first.choices[0].message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"})
    messages += [message, {"role": "tool", "tool_call_id": "call_1", "content": "a.txt"}]
    for _ in client.chat.completions.create(model="m", messages=messages, tools=TOOLS, user=user, stream=True):
        pass
    client.responses.create(
        model="m", input=[{"role": "user", "content": "list /srv"}], instructions="be brief", user=user
    )


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("litellm")
    with new_home() as home:
        log = folder / "litellm.log"
        log.touch()
        with (
            ScriptedOpenAI(ANSWERS).running() as model,
            ingesting(home, "litellm", "--listen", "127.0.0.1:0", "--by", "end_user") as callback,
            ingesting(home, "litellm", "--file", str(log), "--follow", "--by", "end_user"),
            litellm(folder, model.url, callback) as proxy,
        ):
            with OpenAI(base_url=f"{proxy}/v1", api_key=MASTER, max_retries=0) as client:
                converse(client, "direct")
            gateway = Gateway(home)
            url = gateway.listen("both", upstream={"model.test": proxy})
            through = DefaultHttpxClient(proxy=url)
            with OpenAI(base_url="http://model.test/v1", api_key=MASTER, max_retries=0, http_client=through) as client:
                asked: Any = [{"role": "user", "content": TASK}]
                client.chat.completions.create(model="m", messages=asked, tools=TOOLS, user="both")
                with pytest.raises(BadRequestError):
                    client.chat.completions.create(model="m", messages=asked, user="both")
            gateway.ended("both")
            gateway.close()
            told = {}
            for session, turns in (("direct", 3), ("both", 2)):
                told[session] = wait_for(partial(_complete, home, session, turns), f"the records of {session}")
        yield Story(home, model.exchanged, told["direct"], told["both"])


def _complete(home: Path, session: str, turns: int) -> dict[str, Any] | None:
    """The timeline once LiteLLM has told of every call, and of one by both ways: it may lose one of its callback's."""
    found = timeline(home, session)
    held = [turn for turn in found["turns"] if turn["kind"] == "model"]
    told = [len(turn["witnesses"]) + bool(turn["via"]) for turn in held]
    return found if len(held) >= turns and all(told) and max(told) > 1 else None


def test_a_call_that_only_litellm_saw_is_a_turn_with_what_the_model_was_told_and_said(story: Story) -> None:
    first, second, third = story.turns(story.direct)
    assert [turn["via"] for turn in (first, second, third)] == ["litellm"] * 3
    sent = [json.loads(one.asked) for one in story.asked[:3]]
    shown = [[(m["role"], m["text"]) for m in turn["input"]["new_messages"]] for turn in (first, second, third)]
    assert shown[0] == [(m["role"], m["content"]) for m in sent[0]["messages"]]
    assert shown[1] == [("tool", "a.txt")]
    assert shown[2] == [("system", sent[2]["instructions"]), ("user", "list /srv")]
    assert [turn["decision"]["text"] for turn in (first, second, third)] == [
        "I will look.",
        "There is one.",
        "Let me see.",
    ]
    assert [call["name"] for turn in (first, second, third) for call in turn["decision"]["tool_calls"]] == [
        "run",
        "run",
    ]
    assert [turn["decision"]["commands"] for turn in (first, second, third)] == [["ls"], [], ["ls /srv"]]
    assert second["continues"] == first["index"]


def test_what_callback_and_log_tell_of_one_call_is_one_turn(story: Story) -> None:
    witnesses = [witness for turn in story.turns(story.direct) for witness in turn["witnesses"]]
    assert witnesses
    assert {(witness["source"], *witness["differs"]) for witness in witnesses} == {("litellm",)}


def test_a_call_that_our_own_gateway_saw_too_is_told_once_and_they_agree(story: Story) -> None:
    seen, failed = story.turns(story.both)
    assert (seen["via"], failed["via"]) == (None, None)
    assert {(witness["source"], *witness["differs"]) for witness in seen["witnesses"]} == {("litellm",)}
    assert seen["decision"]["text"] == "Seen by both."
    assert failed["decision"]["error"]
    assert {w["source"] for w in failed["witnesses"]} == {"litellm"}


def test_the_source_says_what_it_is_blind_to(story: Story) -> None:
    (source, *_) = [s for s in story.direct["session"]["sources"] if s["source"] == "litellm"]
    assert any("around the proxy" in blind for blind in source["blind"])


def test_the_keys_are_nowhere_on_disk(story: Story) -> None:
    for path in story.home.rglob("*"):
        if path.is_file():
            assert MASTER.encode() not in path.read_bytes(), path
            assert UPSTREAM.encode() not in path.read_bytes(), path
