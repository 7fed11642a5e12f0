"""The openai package through a real gateway: what it made of each answer is what we read off the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import DefaultHttpxClient, OpenAI
from websockets.exceptions import InvalidStatus

from sandtrail.replay.models import ModelCall
from tests.boundary.openai_oracle import compare_chat, compare_response
from tests.boundary.openai_stories import ANSWERS, RESULT, STORIES, TASK
from tests.boundary.reading import Memory, events_of, model_calls
from tests.boundary.scripted.openai import events, in_pieces, response, said
from tests.boundary.scripted.openai_server import ScriptedOpenAI
from tests.collector.gateway.harness import Gateway, Recorded

KEY = "sk-proj-0123456789abcdefghijABCDEFGHIJ"


def client_of(proxy: str) -> OpenAI:
    """A client that knows no more than its environment would tell it."""
    return OpenAI(
        base_url="http://model.test/v1", api_key=KEY, http_client=DefaultHttpxClient(proxy=proxy), max_retries=0
    )


def lead(gateway: Gateway, session: str, name: str, server: ScriptedOpenAI) -> tuple[list[Any], Recorded]:
    proxy = gateway.listen(session, upstream={"model.test": server.url})
    with client_of(proxy) as client:
        answers = STORIES[name](client, {"proxy": proxy})
    return answers, gateway.ended(session)


@pytest.mark.parametrize("name", sorted(STORIES))
def test_a_conversation_with_tools_is_read_as_the_client_read_it(gateway: Gateway, session: str, name: str) -> None:
    with ScriptedOpenAI(ANSWERS[name]).running() as server:
        answers, recorded = lead(gateway, session, name, server)
    calls = model_calls(recorded.frames)
    assert len(calls) == len(answers) == len(server.exchanged) == 2
    for call, answer in zip(calls, answers, strict=True):
        (compare_chat if name.startswith("chat") else compare_response)(call, answer)
        assert (call.problems, call.cut, call.input_cut, call.streamed) == ([], False, False, "_" in name)
    shown_what_was_asked(calls, [json.loads(one.asked) for one in server.exchanged])
    assert KEY.encode() not in gateway.written()


def shown_what_was_asked(calls: list[ModelCall], asked: list[dict[str, Any]]) -> None:
    for call, request in zip(calls, asked, strict=True):
        assert call.model == request["model"]
        assert call.tools == ["run"]
        assert call.previous == request.get("previous_response_id", "")
    assert TASK in [message.text for message in calls[0].messages]
    last = calls[1].messages[-1]
    assert (last.role, last.text, last.tool_call_id) == ("tool", RESULT, "call_1")
    if len(calls[1].messages) > 1:
        said_before = calls[1].messages[-2]
        assert (said_before.role, said_before.text) == ("assistant", calls[0].text)
        # Of arguments that are no text a client may send the keys in another order.
        told = [[(t.id, t.name, t.parsed) for t in tools] for tools in (said_before.tool_calls, calls[0].tool_calls)]
        assert told[0] == told[1]


def test_a_socket_s_messages_are_the_evidence_of_its_calls(gateway: Gateway, session: str) -> None:
    with ScriptedOpenAI(ANSWERS["responses_websocket"]).running() as server:
        _, recorded = lead(gateway, session, "responses_websocket", server)
    told = list(events_of(recorded.frames, Memory()))
    kinds = [event.kind for event in told if event.kind not in ("http.tls", "http.connect", "http.close")]
    assert kinds == ["http.request", "http.exchange", *["http.request", "http.exchange"] * 2, "http.websocket"]
    assert [event.object for event in told if event.kind == "http.exchange"] == [
        "GET http://model.test/v1/responses",
        *["WEBSOCKET http://model.test/v1/responses"] * 2,
    ]
    assert [call.streamed for call in model_calls(recorded.frames)] == [True, True]


def test_a_refused_upgrade_is_no_call_and_the_one_over_http_is(gateway: Gateway, session: str) -> None:
    answers = [response("resp_1", "gpt-test-1", [said("Hello.")])]
    with ScriptedOpenAI(answers, sockets=False).running() as server:
        proxy = gateway.listen(session, upstream={"model.test": server.url})
        options: Any = {"proxy": proxy}
        with client_of(proxy) as client:
            with pytest.raises(InvalidStatus), client.responses.connect(websocket_connection_options=options):
                pass
            client.responses.create(model="gpt-test", input="hello")
        (call,) = model_calls(gateway.ended(session).frames)
    assert server.refused == 1
    assert (call.text, call.problems) == ("Hello.", [])


def test_parallel_lanes_of_one_socket_are_told_apart(gateway: Gateway, session: str) -> None:
    answers = [response(f"resp_{n}", "gpt-test-1", [said(f"I am lane {n}.")]) for n in "ab"]
    told = [list(events(answer, in_pieces(2), stream_id=lane)) for answer, lane in zip(answers, "ab", strict=True)]

    class Interleaved(ScriptedOpenAI):
        """Answers only when both lanes have asked: an event of the one, then of the other."""

        def _message(self, protocol: Any, data: bytes) -> None:
            self._next("websocket", data)
            if len(self.exchanged) == 2:
                for event in (event for pair in zip(*told, strict=True) for event in pair):
                    protocol.send_text(json.dumps(event).encode())

    with Interleaved(answers).running() as server:
        proxy = gateway.listen(session, upstream={"model.test": server.url})
        options: Any = {"proxy": proxy}
        with client_of(proxy) as client, client.responses.connect(websocket_connection_options=options) as connection:
            for lane in "ab":
                connection.response.create(model="gpt-test", input=f"lane {lane}", stream_id=lane)
            ended = [event for event in connection_events(connection, 2) if event.type == "response.completed"]
        calls = model_calls(gateway.ended(session).frames)
    for call, event in zip(calls, ended, strict=True):
        compare_response(call, event.response)
    assert [(call.messages[0].text, call.text) for call in calls] == [
        ("lane a", "I am lane a."),
        ("lane b", "I am lane b."),
    ]
    assert [call.problems for call in calls] == [[], []]


def connection_events(connection: Any, answers: int) -> list[Any]:
    found: list[Any] = []
    while sum(event.type == "response.completed" for event in found) < answers:
        found.append(connection.recv())
    return found
