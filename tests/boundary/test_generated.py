"""Answers that hypothesis makes, as a gateway writes them off HTTP and WebSockets: we read what their client reads."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.boundary.openai_answers import answers, splits
from tests.boundary.openai_oracle import compare_response, final_response
from tests.boundary.reading import model_calls
from tests.boundary.scripted.openai import events, sse
from tests.replay.models.talk import odd

URL = "https://model.test/v1/responses"
OF = {"flow": "f", "id": "a"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@settings(max_examples=60, deadline=None)
@given(answers(), splits(), st.lists(st.integers(1, 300), max_size=6), st.booleans())
def test_a_stream_in_any_chunks(answer: Any, split: Any, sizes: list[int], zipped: bool) -> None:
    told = list(events(answer, split))
    body = gzip.compress(sse(told)) if zipped else sse(told)
    coding = [["content-encoding", "gzip"]] if zipped else []
    asked = b64(json.dumps({"model": "m", "input": "x", "stream": True}).encode())
    head = {
        "t": "response",
        **OF,
        "status": 200,
        "headers": [["content-type", "text/event-stream"], *coding],
        "stream": True,
    }
    frames: list[dict[str, Any]] = [
        {"t": "request", **OF, "method": "POST", "url": URL, "headers": [], "body": asked, "end_ns": 1},
        {**head, "body": "", "start_ns": 2},
    ]
    for size in [*sizes, len(body)]:
        frames.append({"t": "chunk", **OF, "at_ns": 3, "data": b64(body[:size])})
        body = body[size:]
    (call,) = model_calls([*frames, {**head, "body": "", "end_ns": 9, "chunks": len(sizes) + 1}])
    assert (odd(call), call.cut) == ([], False)
    compare_response(call, final_response(told))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(answers(), splits()), min_size=1, max_size=3, unique_by=lambda made: made[0]["id"]), st.data()
)
def test_lanes_of_a_socket_in_any_order(made: list[tuple[Any, Any]], data: st.DataObject) -> None:
    lanes = {f"lane {n}": list(events(answer, split, stream_id=f"lane {n}")) for n, (answer, split) in enumerate(made)}
    upgraded = {"t": "response", **OF, "status": 101, "headers": [], "start_ns": 1, "end_ns": 1}
    frames = [{"t": "request", **OF, "method": "GET", "url": URL, "headers": [], "start_ns": 1, "end_ns": 1}, upgraded]

    def says(way: str, said: Any) -> None:
        text = {"kind": "text", "data": b64(json.dumps(said).encode()), "at_ns": len(frames)}
        frames.append({"t": "websocket", **OF, "from": way, **text})

    for lane in lanes:
        says("client", {"type": "response.create", "model": "m", "input": lane, "stream_id": lane})
    left = {lane: list(told) for lane, told in lanes.items()}
    while left:
        lane = data.draw(st.sampled_from(sorted(left)))
        for _ in range(data.draw(st.integers(1, 4))):
            if lane in left:
                says("server", left[lane].pop(0))
                left = {lane: told for lane, told in left.items() if told}
    calls = {call.messages[0].text: call for call in model_calls(frames)}
    assert set(calls) == set(lanes)
    for lane, told in lanes.items():
        assert (odd(calls[lane]), calls[lane].cut) == ([], False)
        compare_response(calls[lane], final_response(told))
