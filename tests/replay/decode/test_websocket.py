"""Model calls that share a WebSocket, as events."""

from __future__ import annotations

import base64
import json
from typing import Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.decode.gateway import Exchanges

URL = "https://api.test/v1/responses"
CONNECT = {"t": "connect", "flow": "f", "client": ["10.0.0.2", 4000], "host": "api.test", "port": 443}
ASKED = {"t": "request", "flow": "f", "id": "a", "method": "GET", "url": URL, "headers": [], "start_ns": 1, "end_ns": 2}
UPGRADED = {"t": "response", "flow": "f", "id": "a", "status": 101, "headers": [], "start_ns": 3, "end_ns": 3}
OPEN = (CONNECT, ASKED, UPGRADED)

Told = tuple[str, int | None, dict[str, Any]]


def message(way: str, said: Any, *, ident: str = "a", **more: Any) -> dict[str, Any]:
    data = said if isinstance(said, bytes) else json.dumps(said).encode()
    frame = {"t": "websocket", "flow": "f", "id": ident, "from": way, "kind": "text", "bytes": len(data), "cut": False}
    return {**frame, "sha256": "ab" * 32, "data": base64.b64encode(data).decode(), **more}


def create(text: str = "go", **more: Any) -> dict[str, Any]:
    return message("client", {"type": "response.create", "model": "m", "input": text, **more})


def event(kind: str, response: str = "", lane: str = "", **more: Any) -> dict[str, Any]:
    named = {"response": {"id": response, **more}} if response else more
    return message("server", {"type": f"response.{kind}", **named, **({"stream_id": lane} if lane else {})})


def delta(lane: str = "") -> dict[str, Any]:
    return event("output_text.delta", lane=lane, delta="x", output_index=0, content_index=0)


def told(*frames: dict[str, Any], finish: bool = False, stopping: bool = True) -> list[Told]:
    """Events of these messages; frame n has the reference 3.n and the time 100 + n."""
    exchanges = Exchanges()
    found = []
    for n, frame in enumerate((*OPEN, *frames), start=-len(OPEN)):
        drafted = exchanges.feed(f"3.{n}" if n >= 0 else "2.0", 0, json.dumps({"at_ns": 100 + n, **frame}).encode())
        found += drafted if n >= 0 else []
        if stopping:  # a decoder may stop after any frame and go on elsewhere
            state, exchanges = cbor2.dumps(exchanges.dump()), Exchanges()
            exchanges.load(cbor2.loads(state))
    found += exchanges.finish("the record of the gateway ends first") if finish else []
    return [(kind, result, detail) for kind, _, _, result, detail in found]


def calls(*frames: dict[str, Any], finish: bool = False) -> list[dict[str, Any]]:
    return [detail for kind, _, detail in told(*frames, finish=finish) if kind == "http.exchange"]


def test_a_message_that_creates_a_response_is_a_request_and_its_end_an_exchange() -> None:
    asked, answered = told(create(), event("created", "r1"), delta(), delta(), event("completed", "r1"))
    assert (asked[0], answered[0]) == ("http.request", "http.exchange")
    assert asked[2]["id"] == answered[2]["id"] == "a#1"
    assert (answered[2]["method"], answered[2]["url"], answered[2]["client"]) == ("WEBSOCKET", URL, ["10.0.0.2", 4000])
    detail = answered[2]
    assert (detail["asks"], detail["first_ref"], detail["refs"]) == (["3.0"], "3.1", ["3.0", "3.4"])
    assert (detail["start_ns"], detail["first_ns"], detail["end_ns"], detail["chunks"]) == (100, 101, 104, 4)
    assert detail["request"]["ref"] == "3.0"
    assert detail["response"]["ref"] == "3.4"
    assert detail["response_id"] == "r1"


def test_calls_follow_each_other() -> None:
    one = (create(), event("created", "r1"), event("completed", "r1"))
    two = (create(previous_response_id="r1"), event("created", "r2"), delta(), event("incomplete", "r2"))
    assert [(c["id"], c["response_id"], c["refs"]) for c in calls(*one, *two)] == [
        ("a#1", "r1", ["3.0", "3.2"]),
        ("a#2", "r2", ["3.3", "3.6"]),
    ]


def test_lanes_are_told_apart() -> None:
    found = calls(
        create(stream_id="x"), create(stream_id="y"),
        event("created", "r2", "y"), event("created", "r1", "x"), delta("x"), delta("y"), delta("x"),
        event("completed", "r2", "y"), event("completed", "r1", "x"),
    )  # fmt: skip
    assert [(c["id"], c["lane"], c["response_id"], c["chunks"]) for c in found] == [
        ("a#2", "y", "r2", 3),
        ("a#1", "x", "r1", 4),
    ]


def test_requests_of_one_lane_wait_for_each_other() -> None:
    found = calls(
        create("one"), create("two"), event("created", "r1"), delta(), event("completed", "r1"),
        event("created", "r2"), event("failed", "r2"),
    )  # fmt: skip
    assert [(c["id"], c["response_id"], c["chunks"]) for c in found] == [("a#1", "r1", 3), ("a#2", "r2", 2)]


def test_an_error_ends_the_call_that_it_is_about() -> None:
    error = {"type": "error", "status": 400, "error": {"message": "no"}}
    assert [c["chunks"] for c in calls(create(), message("server", error))] == [1]
    assert [c["id"] for c in calls(create(stream_id="x"), message("server", error))] == ["a#1"]
    # Of two lanes nobody knows whose it is: both go on, and the message stays one of its own.
    found = told(create(stream_id="x"), create(stream_id="y"), message("server", error))
    assert [kind for kind, *_ in found] == ["http.request", "http.request", "http.websocket"]


def test_what_steers_a_response_is_part_of_what_follows() -> None:
    steer = message("client", {"type": "response.steer", "previous_response_id": "r1", "input": "no, stop"})
    accepted = message("server", {"type": "response.steer.accepted", "steer": {"previous_response_id": "r1"}})
    begun = (create(), event("created", "r1"), steer, accepted, event("incomplete", "r1"))
    by_server = calls(*begun, event("created", "r2", previous_response_id="r1"), event("completed", "r2"))
    assert [(c["id"], c["asks"], c["response_id"]) for c in by_server] == [
        ("a#1", ["3.0"], "r1"),
        ("a#2", ["3.2"], "r2"),
    ]
    by_client = calls(*begun, create(previous_response_id="r1"), event("created", "r2"), event("completed", "r2"))
    assert by_client[1]["asks"] == ["3.2", "3.5"]
    failed = message("server", {"type": "response.steer.failed", "steer": {"previous_response_id": "r1"}})
    refused = calls(*begun, failed, create(previous_response_id="r1"), event("completed", "r2"))
    assert refused[1]["asks"] == ["3.6"]


def test_a_response_that_nobody_asked_for_is_told() -> None:
    started = (create(), event("created", "r1"), event("completed", "r1"))
    assert calls(*started, event("created", "r2"), event("completed", "r2"))[1]["asks"] == []


def test_the_socket_s_end_ends_what_is_under_way() -> None:
    under_way = (create(), event("created", "r1"), delta())
    close = {"t": "websocket", "flow": "f", "id": "a", "from": "server", "kind": "close", "code": 1011}
    for last, why in (
        (close, "the WebSocket closed first"),
        ({"t": "close", "flow": "f"}, "the connection closed first"),
    ):
        (call,) = calls(*under_way, last)
        assert (call["error"], call["chunks"]) == (why, 2)
        assert calls(*under_way, last, event("completed", "r1")) == [call]
    assert calls(*under_way, finish=True)[0]["error"] == "the record of the gateway ends first"


def test_other_messages_stay_events_of_their_own() -> None:
    realtime = message("client", {"type": "response.create", "response": {"modalities": ["text"]}})
    others = (
        message("client", b"hello"), message("client", b"{"), message("client", [1]), message("client", {"type": 7}),
        message("client", b"\x00\xff", kind="binary"), realtime, event("created", "r"), create() | {"id": "another"},
    )  # fmt: skip
    assert [kind for kind, *_ in told(*others)] == ["http.websocket"] * len(others)
    beside = message("server", {"type": "codex.rate_limits", "limits": {}})
    assert [kind for kind, *_ in told(create(), beside)] == ["http.request", "http.websocket"]


def test_a_message_that_was_cut_is_known_by_its_beginning() -> None:
    head = b'{"type":"response.create","model":"m","input":"' + b"x" * 50
    tail = b'{"type":"response.completed","sequence_number":9,"response":{"id":"r1","outp'
    (call,) = calls(message("client", head, cut=True), event("created", "r1"), message("server", tail, cut=True))
    assert call["request"]["cut"]
    assert call["response"]["cut"]


def test_more_calls_at_once_than_are_followed_stay_messages() -> None:
    found = told(*[create()] * 201, stopping=False)
    assert [kind for kind, *_ in found].count("http.websocket") == 1


ways = st.sampled_from(["client", "server", "", "x"])
idents = st.sampled_from(["", "r1", "r2"]) | st.none() | st.integers()
kinds = st.sampled_from(
    ["response.create", "response.created", "response.completed", "response.x.delta", "error", "response.steer",
     "response.steer.failed", "", 5]
)  # fmt: skip
said = st.fixed_dictionaries(
    {"type": kinds},
    optional={
        "stream_id": idents, "response": idents | st.fixed_dictionaries({"id": idents}), "steer": idents,
        "previous_response_id": idents, "input": idents,
    },
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(ways, said | st.binary(max_size=8), st.booleans()), max_size=12))
def test_every_message_is_told_once_whatever_it_says(messages: list[tuple[str, Any, bool]]) -> None:
    found = told(*(message(way, what, cut=cut) for way, what, cut in messages), finish=True)
    asked = [detail["id"] for kind, _, detail in found if kind == "http.request"]
    ended = [detail["id"] for kind, _, detail in found if kind == "http.exchange"]
    assert sorted(asked) == sorted(ended)
    assert len(set(asked)) == len(asked)
    plain = sum(kind == "http.websocket" for kind, *_ in found)
    own = [d for kind, _, d in found if kind == "http.exchange"]
    inside = sum(d.get("chunks", 0) for d in own) + len({ref for d in own for ref in d["asks"]})
    # What steers is told twice: when it comes, and as a part of what it led to.
    steers = sum(
        1
        for way, what, _ in messages
        if way == "client" and isinstance(what, dict) and what["type"] == "response.steer"
    )
    assert len(messages) <= plain + inside <= len(messages) + steers
