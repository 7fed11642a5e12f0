"""The gateway's frames put together to exchanges."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from sandtrail.replay.decode.gateway import Exchanges

HELLO = base64.b64encode(b"hello").decode()
CONNECT = {
    "t": "connect",
    "flow": "f",
    "client": ["10.0.0.2", 4000],
    "host": "api.test",
    "port": 443,
    "sni": "api.test",
}
REQUEST = {
    "t": "request", "flow": "f", "id": "1", "method": "post", "url": "https://api.test/v1", "headers": [],
    "body": HELLO, "body_bytes": 5, "body_sha256": "ab" * 32, "cut": False, "start_ns": 100, "end_ns": 110,
}  # fmt: skip
RESPONSE = {
    "t": "response", "flow": "f", "id": "1", "status": 200, "headers": [], "body": HELLO, "body_bytes": 5,
    "body_sha256": "cd" * 32, "cut": False, "stream": False, "start_ns": 120, "end_ns": 130,
}  # fmt: skip


def chunk(n: int, at_ns: int, ident: str = "1") -> dict[str, Any]:
    return {"t": "chunk", "flow": "f", "id": ident, "n": n, "at_ns": at_ns, "data": HELLO}


def told(*frames: dict[str, Any], finish: bool = False) -> list[tuple[str, str, int | None, dict[str, Any]]]:
    exchanges = Exchanges()
    found = [e for i, f in enumerate(frames) for e in exchanges.feed(f"3.{i}", 1000 + i, json.dumps(f).encode())]
    found += exchanges.finish("it ends here") if finish else []
    return [(kind, thing, result, detail) for kind, _, thing, result, detail in found]


def test_an_exchange_is_asked_then_told() -> None:
    connect, asked, answered = told(CONNECT, REQUEST, RESPONSE)
    assert connect[:2] == ("http.connect", "api.test:443")
    assert asked[:3] == ("http.request", "POST https://api.test/v1", None)
    assert asked[3]["request"] == {"bytes": 5, "sha256": "ab" * 32, "cut": False, "ref": "3.1"}
    kind, thing, status, detail = answered
    assert (kind, thing, status) == ("http.exchange", "POST https://api.test/v1", 200)
    assert detail["client"] == ["10.0.0.2", 4000]
    assert detail["refs"] == ["3.1", "3.2"]
    assert detail["response"]["ref"] == "3.2"
    assert (detail["start_ns"], detail["asked_ns"], detail["first_ns"], detail["end_ns"]) == (100, 110, 120, 130)


def test_a_streamed_response_is_told_when_its_end_is_known() -> None:
    head = {**RESPONSE, "stream": True, "end_ns": None, "body": ""}
    asked, answered = told(REQUEST, head, chunk(0, 140), chunk(1, 150), {**RESPONSE, "stream": True, "end_ns": 160})
    assert asked[0] == "http.request"
    assert answered[3]["streamed"] is True
    assert (answered[3]["chunks"], answered[3]["chunk_bytes"]) == (2, 10)
    assert (answered[3]["first_ns"], answered[3]["end_ns"], answered[3]["refs"]) == (120, 160, ["3.0", "3.4"])


def test_chunks_may_come_before_the_response_s_own_frame() -> None:
    _, answered = told(REQUEST, chunk(0, 115), {**RESPONSE, "stream": True})
    assert (answered[3]["first_ns"], answered[3]["streamed"]) == (115, True)


def test_an_error_ends_an_exchange() -> None:
    _, ended = told(REQUEST, {"t": "error", "flow": "f", "id": "1", "message": "refused \x1b[31m"})
    assert (ended[0], ended[2], ended[3]["error"]) == ("http.exchange", None, "refused \x1b[31m")


def test_the_connection_s_end_ends_what_is_open() -> None:
    found = told(REQUEST, {**REQUEST, "id": "2"}, {"t": "close", "flow": "f"})
    assert [kind for kind, *_ in found] == [
        "http.request",
        "http.request",
        "http.close",
        "http.exchange",
        "http.exchange",
    ]
    assert all(detail["error"] for kind, _, _, detail in found if kind == "http.exchange")


def test_a_stream_whose_end_was_not_told_is_cut() -> None:
    head = {**RESPONSE, "stream": True, "end_ns": None, "body": "", "body_bytes": None, "body_sha256": None}
    *_, (_, _, status, detail) = told(REQUEST, head, chunk(0, 140), {"t": "close", "flow": "f"})
    assert (status, detail["error"]) == (200, "the connection closed first")
    assert detail["response"] == {"bytes": 5, "sha256": "", "cut": True, "ref": "3.1"}


def test_a_request_of_which_only_the_head_was_told_is_cut() -> None:
    head = {**REQUEST, "stream": True, "end_ns": None, "body": "", "body_bytes": None}
    _, (_, _, _, detail) = told(head, finish=True)
    assert (detail["request"]["cut"], detail["error"]) == (True, "it ends here")


def test_the_record_s_end_ends_what_is_open() -> None:
    assert [kind for kind, *_ in told(REQUEST, finish=True)] == ["http.request", "http.exchange"]


def test_many_connections_end_in_time() -> None:
    asked = [json.dumps({**REQUEST, "flow": f"f{n}"}).encode() for n in range(20_000)]
    closed = [json.dumps({"t": "close", "flow": f"f{n}"}).encode() for n in range(20_000)]
    exchanges = Exchanges()
    for payload in asked:
        exchanges.feed("3.0", 1, payload)
    begun = time.process_time()
    assert sum(len(exchanges.feed("3.1", 2, payload)) for payload in closed) == 40_000
    assert time.process_time() - begun < 2.5  # it took four while each looked through all that were open


def test_exchanges_on_one_connection_are_told_apart() -> None:
    second = {**REQUEST, "id": "2", "url": "https://api.test/v2"}
    found = told(REQUEST, second, {**RESPONSE, "id": "2"}, RESPONSE)
    assert [(k, t) for k, t, *_ in found if k == "http.exchange"] == [
        ("http.exchange", "POST https://api.test/v2"),
        ("http.exchange", "POST https://api.test/v1"),
    ]


def test_hostile_fields_are_capped_and_clean() -> None:
    url = "https://h/" + "a" * 100_000 + "\ud800\0"
    _, found = told({**REQUEST, "url": url, "method": ["x"], "body_bytes": "many"}, {**RESPONSE, "status": -(1 << 80)})
    json.dumps(found[3]).encode()
    assert len(found[1]) < 20_000
    assert found[2] is None


def test_what_is_no_frame_is_said() -> None:
    exchanges = Exchanges()
    for payload in (b"", b"{", b"[]", b'{"t":"what"}', b'{"t":[]}', b"\xff", b"[" * 100_000):
        assert [event[0] for event in exchanges.feed("1.1", 1, payload)] == ["unknown"]


def test_it_goes_on_from_a_state_that_was_kept() -> None:
    before, after = Exchanges(), Exchanges()
    before.feed("3.0", 1, json.dumps(CONNECT).encode())
    before.feed("3.1", 2, json.dumps(REQUEST).encode())
    after.load(json.loads(json.dumps(before.dump())))
    (event,) = after.feed("3.2", 3, json.dumps(RESPONSE).encode())
    assert event[4]["client"] == ["10.0.0.2", 4000]
    assert event[4]["refs"] == ["3.1", "3.2"]


def test_a_request_whose_body_is_recorded_as_it_passes_is_asked_once() -> None:
    head = {**REQUEST, "stream": True, "end_ns": None, "body": "", "body_bytes": 0}
    passing = {"t": "request_chunk", "flow": "f", "id": "1", "n": 0, "at_ns": 105, "data": HELLO}
    found = told(head, passing, {**REQUEST, "stream": True, "body": ""}, RESPONSE)
    assert [kind for kind, *_ in found] == ["http.request", "http.exchange"]
    assert found[1][3]["request"] == {"bytes": 5, "sha256": "ab" * 32, "cut": False, "ref": "3.0"}
    assert found[1][3]["refs"] == ["3.0", "3.3"]


def test_a_response_that_broke_off_is_told_with_the_error() -> None:
    part = {**RESPONSE, "stream": True, "end_ns": None, "cut": True}
    _, broken = told(REQUEST, part, {"t": "error", "flow": "f", "id": "1", "message": "reset", "at_ns": 170})
    assert (broken[2], broken[3]["error"], broken[3]["response"]["cut"], broken[3]["end_ns"]) == (
        200,
        "reset",
        True,
        170,
    )


def test_what_is_no_exchange_is_told_by_itself() -> None:
    found = told(
        {"t": "tls", "flow": "f", "sni": "api.test", "established": False, "message": "bad certificate", "at_ns": 5},
        {"t": "error", "flow": "f", "message": "not HTTP", "reason": "protocol", "by": "gateway"},
        {"t": "websocket", "flow": "f", "id": "1", "from": "client", "kind": "text", "data": HELLO, "bytes": 5},
        {"t": "tcp", "flow": "f", "host": "h", "port": 22, "from": "client", "data": HELLO},
        {"t": "tcp", "flow": "f", "host": "h", "port": 22, "end": True, "client": {"bytes": 5}, "server": {"bytes": 0}},
        {"t": "close", "flow": "f", "up_bytes": 7, "down_bytes": 9},
    )
    assert [(kind, thing, result) for kind, thing, result, _ in found] == [
        ("http.tls", "api.test", None),
        ("http.error", "not HTTP", None),
        ("http.websocket", "client text", 5),
        ("http.tunnel", "h:22", None),
        ("http.close", "", None),
    ]
    assert not any("data" in detail for *_, detail in found)
    assert found[4][3] == {"flow": "f", "up_bytes": 7, "down_bytes": 9}


def test_a_name_that_was_not_looked_up_is_the_answer_to_its_question() -> None:
    ends = {"client": ["10.219.0.2", 4000], "server": ["10.219.0.1", 53], "proto": "udp"}
    ((kind, thing, result, detail),) = told(
        {"t": "dns", "name": "bad.test", **ends, "message": "bad.test is denied", "reason": "denied", "rules": "ab"}
    )
    assert (kind, thing, result) == ("net.dns", "bad.test", 5)
    found = {key: detail[key] for key in ("verdict", "sport", "dport", "peer", "proto", "reason", "rules")}
    assert found == {
        "verdict": "denied", "sport": 4000, "dport": 53, "peer": "10.219.0.1:53", "proto": "udp",
        "reason": "denied", "rules": "ab",
    }  # fmt: skip
    clients: tuple[Any, ...] = (None, [], ["x"], [[], {}], {"a": 1})
    for client in clients:
        assert told({"t": "dns", "name": None, "client": client})[0][0] == "net.dns"


def test_a_connection_that_was_turned_says_so() -> None:
    ((_, thing, _, detail),) = told({"t": "connect", "flow": "f", "host": "203.0.113.7", "port": 443, "turned": True})
    assert (thing, detail["turned"]) == ("203.0.113.7:443", True)
