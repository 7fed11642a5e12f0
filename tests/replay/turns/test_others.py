"""What LiteLLM tells of model calls, beside what our own gateway saw or did not see."""

from __future__ import annotations

import base64
import json
from typing import Any

from sandtrail.replay.decode.others import other_events
from sandtrail.replay.decode.text import to_json
from sandtrail.replay.events import Event
from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.timeline import View

T = 1_700_000_000
S = 1_000_000_000


class Told:
    """Frames of LiteLLM and of our gateway, and the events of both."""

    def __init__(self) -> None:
        self.payloads: dict[str, bytes] = {}
        self.events: list[Event] = []

    def frame(self, ref: str) -> bytes:
        return self.payloads[ref]

    def between(self, first: str, last: str) -> Any:
        begin, end = int(first.split(".")[1]), int(last.split(".")[1])
        return [(r, p) for r, p in self.payloads.items() if begin <= int(r.split(".")[1]) <= end]

    def add(self, source: str, kind: str, payload: bytes, time_ns: int, thing: str, detail: Any, late: int = S) -> None:
        ref = f"1.{len(self.payloads)}"
        self.payloads[ref] = payload
        self.events.append(
            Event(
                ref,
                "s",
                "c",
                source,
                kind,
                time_ns,
                time_ns + late,
                len(self.events),
                object=thing,
                detail=to_json(detail),
            )
        )

    def litellm(self, call: str, answer: str, *, at: float = 1.0, ident: str = "chatcmpl-1", asked: Any = "hi") -> None:
        shown = asked if isinstance(asked, list) else [{"role": "user", "content": asked}]
        message = {"role": "assistant", "content": answer}
        response = {"id": ident, "object": "chat.completion", "choices": [{"index": 0, "message": message}]}
        record = {
            "litellm_call_id": call,
            "call_type": "acompletion",
            "status": "success",
            "model_group": "m",
            "startTime": T + at,
            "endTime": T + at + 0.5,
            "messages": shown,
            "response": response,
            "api_base": "http://h/v1",
        }
        data = base64.b64encode(json.dumps(record).encode()).decode()
        payload = json.dumps({"t": "record", "via": "http", "data": data}).encode()
        for kind, time_ns, thing, _, detail in other_events("litellm", payload):
            self.add("litellm", kind, payload, time_ns, thing, detail)

    def gateway(
        self, flow: str, answer: str, *, at: float = 0.9, took: float = 1.0, call: str = "", asked: str = "hi"
    ) -> None:
        start, end = int((T + at) * S), int((T + at + took) * S)
        question = json.dumps({"model": "m", "messages": [{"role": "user", "content": asked}]}).encode()
        choices = [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]
        reply = json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "choices": choices}).encode()
        head = [["Content-Type", "application/json"], *([["x-litellm-call-id", call]] if call else [])]
        detail = {"flow": flow, "id": "1", "method": "POST", "url": "http://m/v1/chat/completions", "start_ns": start}
        told = {**detail, "t": "request", "headers": [], "body": base64.b64encode(question).decode(), "end_ns": start}
        ref = f"1.{len(self.payloads)}"
        detail["refs"], detail["request"] = [ref], {"ref": ref}
        self.add(
            "gateway", "http.request", json.dumps(told).encode(), start, "POST http://m/v1/chat/completions", detail, 0
        )
        more = {"status": 200, "headers": head, "body": base64.b64encode(reply).decode(), "end_ns": end}
        last = f"1.{len(self.payloads)}"
        ended = {
            **detail,
            "refs": [ref, last],
            "response": {"ref": last},
            "first_ns": end,
            "end_ns": end,
            "status": 200,
        }
        payload = json.dumps({**detail, "t": "response", **more, "start_ns": end}).encode()
        self.add("gateway", "http.exchange", payload, start, "POST http://m/v1/chat/completions", ended, int(took * S))

    def turns(self) -> list[dict[str, Any]]:
        fold = Fold(self)
        fold.feed(self.events)
        view = View(fold)
        return [view.turn(turn) for turn in fold.turns[1:]]


def test_a_call_that_only_litellm_tells_of_is_a_turn_of_its_own() -> None:
    told = Told()
    told.litellm("a", "hello")
    (turn,) = told.turns()
    assert (turn["via"], turn["decision"]["text"]) == ("litellm", "hello")
    assert turn["input"]["ref"] == turn["decision"]["ref"] == "1.0"
    assert [row["kind"] for row in turn["outputs"]] == ["model.call"]


def test_a_call_that_both_saw_is_one_turn_by_the_id_that_litellm_gave_it() -> None:
    told = Told()
    told.gateway("f", "hello", call="a")
    told.litellm("a", "hello", ident="another id")
    (turn,) = told.turns()
    assert turn["via"] is None
    assert turn["witnesses"] == [{"ref": "1.2", "source": "litellm", "differs": []}]


def test_where_the_two_differ_is_said() -> None:
    told = Told()
    told.gateway("f", "hello", asked="what the sandbox sent")
    told.litellm("a", "goodbye", asked="what LiteLLM made of it")
    (turn,) = told.turns()
    assert turn["decision"]["text"] == "hello"
    assert turn["witnesses"][0]["differs"] == ["the answer's text", "the messages that the model was shown"]


def test_a_server_that_gives_one_id_twice_hides_no_call() -> None:
    told = Told()
    told.gateway("f", "hello")
    told.litellm("a", "hello")
    told.litellm("b", "something else", at=1.1)
    told.litellm("c", "much later", at=100.0)
    turns = told.turns()
    assert [(turn["via"], turn["decision"]["text"]) for turn in turns] == [
        *((None, "hello"), ("litellm", "something else"), ("litellm", "much later")),
    ]


def test_the_same_record_by_two_ways_is_one_turn() -> None:
    told = Told()
    told.litellm("a", "hello")
    told.litellm("a", "hello")
    (turn,) = told.turns()
    assert [witness["differs"] for witness in turn["witnesses"]] == [[]]


def test_a_call_that_ended_while_ours_went_on_is_another_turn_if_ours_was_not_it() -> None:
    told = Told()
    told.gateway("f", "ours", took=5.0, call="x")
    told.litellm("a", "theirs", at=1.5, ident="r-2")
    turns = told.turns()
    assert [(turn["via"], turn["decision"]["text"]) for turn in turns] == [(None, "ours"), ("litellm", "theirs")]


def test_messages_in_anthropics_blocks_beside_an_answer_in_openais_shape_are_read() -> None:
    told = Told()
    blocks: Any = [
        {"role": "user", "content": "count"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "run", "input": {"command": "ls"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "a.txt"}]},
    ]
    told.litellm("a", "one", asked=blocks)
    (turn,) = told.turns()
    shown = [(m["role"], m["text"], m["tool_call_id"]) for m in turn["input"]["new_messages"]]
    assert shown == [("user", "count", None), ("assistant", "", None), ("tool", "a.txt", "t")]
