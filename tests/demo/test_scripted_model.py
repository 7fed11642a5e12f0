"""The scripted model speaks the real API: the vendor's own client is the judge."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.demo import story
from deploy.demo.scripted_model import MAX_BODY, Refused, ScriptedModel, chunks, completion, next_turn

BASH: Any = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}
START: list[Any] = [{"role": "system", "content": "You help."}, {"role": "user", "content": story.TASK}]


@pytest.fixture
def server() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        thread = threading.Thread(target=model.serve_forever)
        thread.start()
        yield model
        model.shutdown()
        thread.join()


@pytest.fixture
def client(server: ScriptedModel) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-anything", max_retries=0) as found:
        yield found


def results(message: Any) -> list[Any]:
    return [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in message.tool_calls]


def commands(message: Any) -> tuple[str, ...]:
    return tuple(json.loads(call.function.arguments)["command"] for call in message.tool_calls)


def test_plays_the_whole_story(client: openai.OpenAI) -> None:
    messages = list(START)
    for turn in story.TURNS:
        answer = client.chat.completions.create(model=story.MODEL, messages=messages, tools=[BASH])
        message = answer.choices[0].message
        assert (message.content, commands(message)) == (turn.text, turn.commands)
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        messages += [message.model_dump(exclude_none=True), *results(message)]
    with pytest.raises(openai.BadRequestError) as ended:
        client.chat.completions.create(model=story.MODEL, messages=messages, tools=[BASH])
    assert ended.value.code == "script_ended"


def test_streams_the_same_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=story.MODEL, messages=START, tools=[BASH])
    with client.chat.completions.stream(
        model=story.MODEL, messages=START, tools=[BASH], stream_options={"include_usage": True}
    ) as stream:
        streamed = stream.get_final_completion()
    assert streamed.usage == whole.usage
    assert streamed.choices[0].finish_reason == "tool_calls"
    assert streamed.choices[0].message.content == whole.choices[0].message.content
    assert commands(streamed.choices[0].message) == commands(whole.choices[0].message)


def test_the_same_conversation_gets_the_same_answer(client: openai.OpenAI) -> None:
    first, second = (client.chat.completions.create(model=story.MODEL, messages=START, tools=[BASH]) for _ in range(2))
    assert first == second


def test_is_named_as_scripted(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["scripted-demo-model"]
    raw = client.chat.completions.with_raw_response.create(model=story.MODEL, messages=START, tools=[BASH])
    assert raw.headers["x-scripted-model"] == "true"
    assert raw.parse().model == "scripted-demo-model"


def test_refuses_another_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-5", messages=START, tools=[BASH])
    assert refused.value.code == "model_not_found"
    assert refused.value.param == "model"


def test_refuses_a_conversation_without_the_tool(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="bash"):
        client.chat.completions.create(model=story.MODEL, messages=START)


def test_refuses_a_call_without_its_result(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model=story.MODEL, messages=START, tools=[BASH]).choices[0].message
    messages = [*START, first.model_dump(exclude_none=True), *results(first)[1:]]
    with pytest.raises(openai.BadRequestError, match="call_00_0"):
        client.chat.completions.create(model=story.MODEL, messages=messages, tools=[BASH])


def test_refuses_a_caller_without_a_key(server: ScriptedModel) -> None:
    assert ask(server, b"{}", {}) == (401, "invalid_api_key")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_refuses_what_is_no_request(server: ScriptedModel, body: bytes) -> None:
    assert ask(server, body, {"authorization": "Bearer x"})[0] == 400


def test_refuses_a_body_that_is_too_large_without_reading_it(server: ScriptedModel) -> None:
    assert ask(server, b"", {"content-length": str(MAX_BODY + 1)})[0] == 413


def test_refuses_other_paths(server: ScriptedModel) -> None:
    assert ask(server, b"{}", {"authorization": "Bearer x"}, "/v1/embeddings")[0] == 404


def ask(server: ScriptedModel, body: bytes, headers: dict[str, str], path: str = "/v1/chat/completions") -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["error"]["code"]
    finally:
        connection.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({}, optional={"role": st.sampled_from(["user", "assistant", "tool"]) | JSON, "content": JSON})
)


@given(messages=MESSAGES | JSON, tools=st.just([BASH]) | JSON, options=JSON)
def test_answers_or_refuses_whatever_it_is_asked(messages: Any, tools: Any, options: Any) -> None:
    request = {"model": story.MODEL, "messages": messages, "tools": tools, "stream_options": options}
    try:
        turn = next_turn(request)
    except Refused:
        return
    assert completion(request, turn)["choices"]
    deltas = [choice["delta"] for chunk in chunks(request, turn) for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == story.TURNS[turn].text
