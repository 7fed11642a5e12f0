"""Exchanges put together from the gateway's frames, in the orders in which it writes them."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandtrail.replay.models import Assembler, Exchange, decode_exchange

URL = "https://model.test/v1/chat/completions"
ASK = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}).encode()
STREAM = b"".join(
    b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode() + b"\n\n"
    for word in ("one ", "two ", "three")
)
GZIP = ["content-encoding", "gzip"]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def frame(kind: str, **more: Any) -> dict[str, Any]:
    return {"t": kind, "flow": "f", "id": "1", **more}


def request(**more: Any) -> dict[str, Any]:
    return frame("request", **{"method": "POST", "url": URL, "headers": [], "body": b64(ASK), "start_ns": 10, **more})


def response(**more: Any) -> dict[str, Any]:
    return frame(
        "response", **{"status": 200, "headers": [["content-type", "text/event-stream"]], "start_ns": 20, **more}
    )


def chunks(kind: str, data: bytes, size: int = 40, **more: Any) -> list[dict[str, Any]]:
    cuts = range(0, len(data), size)
    return [frame(kind, n=n, at_ns=30 + n, data=b64(data[at : at + size]), **more) for n, at in enumerate(cuts)]


def put(*frames: dict[str, Any]) -> Exchange:
    assembler = Assembler()
    for n, one in enumerate(frames):
        assembler.feed(one, f"1.{n}", 1000 + n)
    (found,) = assembler.exchanges.values()
    return found


def text(exchange: Exchange) -> str:
    call = decode_exchange(exchange)
    assert call is not None
    return call.text


def test_a_streamed_response_is_its_chunks() -> None:
    head, end = response(body="", stream=True), response(body="", stream=True, chunks=4, end_ns=99)
    found = put(request(), head, *chunks("chunk", STREAM), end)
    assert text(found) == "one two three"
    assert (found.first_ns, found.end_ns, found.response_done) == (20, 99, True)
    assert found.request_ref == "1.0"


def test_a_streamed_response_under_way_is_read_as_far_as_it_came() -> None:
    found = put(request(), response(body="", stream=True), *chunks("chunk", STREAM)[:3])
    assert text(found).startswith("one")
    call = decode_exchange(found)
    assert call is not None
    assert call.cut


def test_a_streamed_request_is_its_chunks() -> None:
    head, end = request(body="", stream=True), request(body="", stream=True, chunks=2, end_ns=15)
    assert put(head).request_pending
    found = put(head, *chunks("request_chunk", ASK), end, response(body=b64(STREAM), end_ns=99))
    assert not found.request_pending
    call = decode_exchange(found)
    assert call is not None
    assert [message.text for message in call.messages] == ["hello"]


def test_a_coding_that_the_recorder_undid_is_not_undone_again() -> None:
    found = put(
        request(headers=[GZIP], decoded=True),
        response(headers=[GZIP], body="", stream=True),
        *chunks("chunk", STREAM, decoded=True),
    )
    call = decode_exchange(found)
    assert call is not None
    assert (call.text, call.problems) == ("one two three", [])


def test_an_exchange_that_breaks_off_keeps_what_came_and_says_why() -> None:
    head = response(body="", stream=True)
    found = put(request(), head, *chunks("chunk", STREAM)[:4], frame("error", message="reset", at_ns=70, cut=True))
    call = decode_exchange(found)
    assert call is not None
    assert call.cut
    assert call.text
    assert (found.error, found.end_ns) == ("reset", 70)


def test_a_request_that_nobody_answered_is_a_call_without_an_answer() -> None:
    call = decode_exchange(put(request(), frame("error", message="no such host")))
    assert call is not None
    assert (call.error, call.choices) == ("no such host", [])


def test_exchanges_of_one_connection_are_told_apart_by_their_id() -> None:
    assembler = Assembler()
    for n in ("1", "2"):
        assembler.feed({**request(), "id": n}, f"1.{n}", 0)
    assert len(assembler.exchanges) == 2


def test_frames_of_more_exchanges_than_the_limit_are_of_none() -> None:
    assembler = Assembler(limit=1)
    found = [assembler.feed({**request(), "id": str(n)}, "1.1", 0) for n in range(3)]
    assert [one and one.id for one in found] == ["0", None, None]
    assert len(assembler.exchanges) == 1


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.text(max_size=4))
names = st.sampled_from(
    [
        "t",
        "flow",
        "id",
        "method",
        "url",
        "headers",
        "body",
        "data",
        "status",
        "stream",
        "start_ns",
        "end_ns",
        "at_ns",
        "cut",
    ]
)
kinds = st.sampled_from(["connect", "request", "request_chunk", "response", "chunk", "error", "close", "x"])


@given(st.lists(st.tuples(kinds, st.dictionaries(names, values)), max_size=8))
def test_no_frame_raises(frames: list[tuple[str, dict[str, Any]]]) -> None:
    assembler = Assembler()
    for kind, fields in frames:
        found = assembler.feed({**fields, "t": kind}, "1.1", 5)
        if found is not None:
            decode_exchange(found)
