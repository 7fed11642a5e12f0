"""Model calls over a WebSocket are turns like any other."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from sandtrail.replay.decode.gateway import Exchanges
from tests.boundary.scripted.openai import events, in_pieces, response
from tests.replay.turns.recording import GATEWAY, SANDBOX, Recording

URL = "https://model.test/v1/responses"


class Socket:
    """An upgraded exchange of a recording's, told by the decoder from the frames that the gateway writes."""

    def __init__(self, r: Recording, pid: int, status: int = 101) -> None:
        self.r = r
        self.flow = f"f{len(r.events)}"
        self.decoder = Exchanges()
        self.frame("connect", client=[SANDBOX, r.connect(pid, *GATEWAY)], host="model.test", port=443)
        upgrade = [["upgrade", "websocket"]]
        self.frame("request", method="GET", url=URL, headers=upgrade, start_ns=r.now, end_ns=r.now)
        self.frame("response", status=status, headers=upgrade if status == 101 else [], start_ns=r.now, end_ns=r.now)

    def frame(self, t: str, /, **told: Any) -> None:
        self.r.now += 1_000_000
        ref = f"1.{100_000 + len(self.r.payloads)}"
        payload = json.dumps({"t": t, "flow": self.flow, "id": "a", "at_ns": self.r.now, **told}).encode()
        self.r.payloads[ref] = payload
        for name, time_ns, thing, result, detail in self.decoder.feed(ref, self.r.now, payload):
            at = {"time_ns": time_ns} if time_ns else {}
            self.r.add(name, source="gateway", object=thing, result=result, detail=detail, **at)

    def says(self, way: str, said: dict[str, Any]) -> None:
        data = json.dumps(said).encode()
        more = {"bytes": len(data), "sha256": "", "cut": False, "data": base64.b64encode(data).decode()}
        self.frame("websocket", **{"from": way, "kind": "text", **more})

    def asks(self, text: str, **more: Any) -> None:
        self.says("client", {"type": "response.create", "model": "m", "input": text, **more})

    def answers(self, ident: str, *output: dict[str, Any], until: int | None = None, **mark: Any) -> None:
        for event in list(events(response(ident, "m", list(output)), in_pieces(4), **mark))[:until]:
            self.says("server", event)


def said(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}


def bash(command: str, call_id: str = "call_1") -> dict[str, Any]:
    arguments = json.dumps({"command": command})
    return {"id": "fc_1", "type": "function_call", "call_id": call_id, "name": "bash", "arguments": arguments}


def result(text: str, call_id: str = "call_1") -> list[dict[str, Any]]:
    return [{"type": "function_call_output", "call_id": call_id, "output": text}]


def test_each_call_on_a_socket_is_a_turn_with_its_evidence() -> None:
    r = Recording()
    agent = r.begin("agent")
    socket = Socket(r, agent)
    socket.asks("list the files")
    socket.answers("resp_1", said("I look."), bash("ls -la"))
    child = r.run(agent, "/bin/sh", "-c", "ls -la")
    socket.says(
        "client", {"type": "response.create", "model": "m", "input": result("a.txt"), "previous_response_id": "resp_1"}
    )
    socket.answers("resp_2", said("There is a.txt."))
    start, first, second = r.timeline()["turns"]
    assert [(m["role"], m["text"]) for m in first["input"]["new_messages"]] == [("user", "list the files")]
    assert (first["decision"]["text"], first["decision"]["commands"]) == ("I look.", ["ls -la"])
    assert (first["decision"]["streamed"], first["decision"]["cut"]) == (True, False)
    assert first["decision"]["finish_reason"] == "completed"
    assert [m["text"] for m in second["input"]["new_messages"]] == ["a.txt"]
    assert second["decision"]["text"] == "There is a.txt."
    assert (second["thread"], second["continues"]) == (first["thread"], 1)
    for turn, asked, ended in ((first, "list the files", "resp_1"), (second, "a.txt", "resp_2")):
        payload = {key: json.loads(r.frame(turn[key]["ref"])) for key in ("input", "decision")}
        assert asked in base64.b64decode(payload["input"]["data"]).decode()
        last = json.loads(base64.b64decode(payload["decision"]["data"]))
        assert (last["type"], last["response"]["id"]) == ("response.completed", ended)
    assert [row["pid"] for row in first["outputs"] if row["kind"] == "process.exec"] == [child]
    assert not [
        row
        for turn in (start, second)
        for row in turn["outputs"]
        if row["kind"] == "process.exec" and row["pid"] == child
    ]


def test_the_upgrade_stands_under_the_first_call_that_it_carried() -> None:
    r = Recording()
    agent = r.begin("agent")
    socket = Socket(r, agent)
    for number in (1, 2):
        socket.asks(f"task {number}")
        socket.answers(f"resp_{number}", said("Done."))
    start, first, second = r.timeline()["turns"]
    rows = [(row["kind"], row["object"], "transport" in row["flags"]) for row in first["outputs"]]
    assert rows == [("http.exchange", f"GET {URL}", True), ("model.call", f"WEBSOCKET {URL}", True)]
    assert [row["kind"] for row in second["outputs"]] == ["model.call"]
    assert not [row for row in start["outputs"] if row["kind"].startswith(("http", "net", "model"))]


def test_a_socket_that_ends_in_an_answer_leaves_a_cut_one() -> None:
    r = Recording()
    agent = r.begin("agent")
    socket = Socket(r, agent)
    socket.asks("go")
    socket.answers("resp_1", said("I begin to answer."), until=8)
    socket.frame("websocket", **{"from": "server", "kind": "close", "code": 1011, "reason": ""})
    _, turn = r.timeline()["turns"]
    assert turn["decision"]["text"]
    assert "I begin to answer.".startswith(turn["decision"]["text"])
    assert turn["decision"]["cut"]


def test_a_request_that_nothing_answered_says_so() -> None:
    r = Recording()
    agent = r.begin("agent")
    socket = Socket(r, agent)
    socket.asks("go")
    socket.frame("close")
    _, turn = r.timeline()["turns"]
    assert turn["decision"]["error"] == "the connection closed first"


def test_parallel_lanes_are_turns_of_their_own() -> None:
    r = Recording()
    agent = r.begin("agent")
    socket = Socket(r, agent)
    answers = {}
    for lane in ("x", "y"):
        socket.asks(f"task {lane}", stream_id=lane)
        answers[lane] = list(
            events(response(f"resp_{lane}", "m", [said(f"Done {lane}.")]), in_pieces(2), stream_id=lane)
        )
    for pair in zip(answers["x"], answers["y"], strict=True):
        for event in pair:
            socket.says("server", event)
    _, *turns = r.timeline()["turns"]
    assert [(t["input"]["new_messages"][0]["text"], t["decision"]["text"]) for t in turns] == [
        ("task x", "Done x."),
        ("task y", "Done y."),
    ]
    assert [t["decision"]["problems"] for t in turns] == [[], []]


def test_what_steered_a_response_is_input_of_the_next() -> None:
    r = Recording()
    agent = r.begin("agent")
    socket = Socket(r, agent)
    socket.asks("go")
    socket.says("client", {"type": "response.steer", "previous_response_id": "resp_1", "input": "to the left"})
    socket.answers("resp_1", said("I go."))
    follower = response("resp_2", "m", [said("I go left.")], previous_response_id="resp_1")
    for event in events(follower, in_pieces(9)):
        socket.says("server", event)
    _, _, turn = r.timeline()["turns"]
    assert [m["text"] for m in turn["input"]["new_messages"]] == ["to the left"]
    assert turn["decision"]["text"] == "I go left."


@pytest.mark.parametrize("status", [404, 405, 426])
def test_a_refused_upgrade_is_no_turn_and_what_follows_over_https_is_one(status: int) -> None:
    r = Recording()
    agent = r.begin("agent")
    Socket(r, agent, status=status)
    r.request(agent, "POST", URL, {"model": "m", "input": "go"}, response("resp_1", "m", [said("Done.")]))
    timeline = r.timeline()
    assert [turn["kind"] for turn in timeline["turns"]] == ["start", "model"]
    assert timeline["turns"][1]["decision"]["text"] == "Done."
    assert timeline["findings"] == []


def test_an_answer_that_is_fetched_later_decides_what_follows() -> None:
    r = Recording()
    agent = r.begin("agent")
    ask = {"model": "m", "input": "go", "background": True}
    begun = response("resp_1", "m", [], "queued", background=True)
    r.request(agent, "POST", URL, ask, begun)
    r.request(agent, "GET", f"{URL}/resp_1", None, {**begun, "status": "in_progress"})
    r.request(agent, "GET", f"{URL}/resp_1", None, {**begun, "status": "completed", "output": [bash("make all")]})
    r.run(agent, "/bin/sh", "-c", "make all")
    more = {"model": "m", "input": result("done"), "previous_response_id": "resp_1"}
    r.request(agent, "POST", URL, more, response("resp_2", "m", [said("Done.")]))
    timeline = r.timeline()
    _, asked, answered, last = timeline["turns"]
    assert (asked["decision"]["commands"], asked["decision"]["finish_reason"]) == ([], None)
    assert answered["decision"]["commands"] == ["make all"]
    assert [row["object"] for row in answered["outputs"] if row["kind"] == "process.exec"] == ["/bin/sh -c 'make all'"]
    assert len({turn["thread"] for turn in (asked, answered, last)}) == 1
    assert timeline["findings"] == []


def test_evidence_that_cannot_be_read_is_said_to_be_so() -> None:
    r = Recording()
    agent = r.begin("agent")
    socket = Socket(r, agent)
    socket.asks("go")
    socket.answers("resp_1", said("Done."))
    r.payloads.clear()
    _, turn = r.timeline()["turns"]
    assert "cannot be read" in turn["decision"]["error"]
