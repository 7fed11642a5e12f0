"""Streams of every source through the one decoder: what it keeps, what it says of the streams themselves."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import pytest

from sandtrail.replay.decode.decoder import DIED, GRACE_NS, Decoder
from sandtrail.replay.decode.gateway import ENDS
from sandtrail.replay.events import Event
from sandtrail.store.frames import Kind
from tests.replay.decode.recorded import OK, gvisor, netfilter, packet
from tests.replay.decode.test_gateway import CONNECT, REQUEST, RESPONSE
from tests.replay.decode.test_netfilter import ipv4, logged, udp

Frames = list[tuple[int, Kind, bytes]]
"""stream, kind, payload"""


def cbor(**told: Any) -> bytes:
    return cbor2.dumps(told)


def opened(stream: int, source: str, **more: Any) -> tuple[int, Kind, bytes]:
    return stream, Kind.OPEN, cbor(source=source, session="s", sandbox="sb", **more)


def closed(stream: int, **more: Any) -> tuple[int, Kind, bytes]:
    return stream, Kind.CLOSE, cbor(reason="end of connection", **more)


def feed(frames: Frames, decoder: Decoder | None = None, stop: int = -1) -> list[Event]:
    """The events of frames; at frame `stop` the decoder is put aside and a new one goes on from what it knew."""
    decoder = decoder or Decoder()
    seqs: dict[int, int] = {}
    rows: list[tuple[Any, ...]] = []
    for place, (stream, kind, payload) in enumerate(frames):
        if place == stop:
            decoder = handed_over(decoder)
        seq = seqs[stream] = seqs.get(stream, -1) + 1
        decoder.feed(4, place, stream, seq, int(kind), 10**9 * (1 + place // 50), payload, rows)
        if place % 50 == 49:
            decoder.tick(10**9 * (1 + place // 50), rows)
    return [Event(*row) for row in rows]


def handed_over(decoder: Decoder) -> Decoder:
    """Another decoder that knows what this one does, by way of what a catalog can hold."""
    fresh = Decoder()
    for stream in decoder.streams:
        state = decoder.dump(stream)
        assert state is not None
        fresh.load(stream, cbor2.loads(cbor2.dumps(state)))
    return fresh


def filtered(*numbers: int) -> Frames:
    """Logged packets with these sequence numbers."""
    return [(2, Kind.DATA, logged("flow:reject", ipv4(17, udp(1, b"")), number)) for number in numbers]


def story() -> Frames:
    frames: Frames = [opened(1, "lifecycle", command=["sh"]), opened(2, "netfilter"), opened(3, "gateway")]
    frames.append(opened(5, "conntrack", sandbox_address="10.219.0.2"))
    frames.append(opened(4, "gvisor", sees=["syscall/openat/exit"]))
    frames += [(4, Kind.DATA, data) for data in gvisor("20260905")]
    frames[30:30] = [(3, Kind.DATA, json.dumps(CONNECT).encode()), (3, Kind.DATA, json.dumps(REQUEST).encode())]
    frames[90:90] = [(2, Kind.DATA, data) for data in netfilter("nflog")]
    frames[200:200] = [(3, Kind.DATA, json.dumps(RESPONSE).encode())]
    frames[210:210] = [(5, Kind.DATA, data) for data in netfilter("conntrack")]
    frames.append((1, Kind.DATA, json.dumps({"act": "exit", "container": "c", "exit_status": 5}).encode()))
    return frames + [closed(stream) for stream in (4, 2, 5, 3, 1)]


def test_a_decoder_goes_on_where_another_stopped_wherever_that_was() -> None:
    frames = story()
    whole = feed(frames)
    assert len(whole) > 400
    for stop in range(0, len(frames), 7):
        assert feed(frames, stop=stop) == whole


def test_each_event_has_its_session_source_and_place() -> None:
    found = feed(story())
    assert {event.session for event in found} == {"s"}
    assert {event.sandbox for event in found} == {"sb"}
    assert {event.source for event in found} == {"lifecycle", "netfilter", "gateway", "gvisor", "conntrack"}
    assert len({(event.ref, event.n) for event in found}) == len(found)


def test_the_lifecycle_says_how_the_command_ended() -> None:
    (event,) = [event for event in feed(story()) if event.kind == "lifecycle.exit"]
    assert (event.result, event.object, event.container) == (5, "c", "c")


def test_a_stream_s_end_counts_what_was_not_understood() -> None:
    frames = [opened(1, "gvisor"), (1, Kind.DATA, b"x"), (1, Kind.DATA, b"yy"), closed(1, frames=3, dropped=0)]
    end = feed(frames)[-1]
    assert (end.kind, end.object) == ("stream.close", "end of connection")
    assert json.loads(end.detail)["unknown"] == {"shorter than a header": 2}


def test_a_gap_that_headers_and_the_recorder_both_tell_is_one_gap() -> None:
    drop = packet("SYSCALL_FORK", exit=OK, dropped=5)
    note = cbor(note="gap", cause="dropped by the sentry", count=5, after_seq=0, before_seq=1, from_ns=1, to_ns=2)
    found = feed([opened(1, "gvisor"), (1, Kind.DATA, drop), (1, Kind.NOTE, note), (1, Kind.NOTE, note)])
    # The second note tells of drops that no header has.
    assert [event.kind for event in found][1:] == ["gap", "syscall.fork", "note.gap", "gap"]


def test_a_gap_says_its_bounds_and_its_stream() -> None:
    note = cbor(note="gap", cause="the sandbox never connected its trace", count=None, after_seq=3, from_ns=7, to_ns=9)
    (_, gap) = feed([opened(0xAB, "lifecycle"), (0xAB, Kind.NOTE, note)])
    told = json.loads(gap.detail)
    assert (gap.kind, gap.object, gap.result) == ("gap", "the sandbox never connected its trace", None)
    assert (told["from_ns"], told["to_ns"], told["after_seq"], told["stream"]) == (7, 9, 3, "00000000000000ab")


def test_other_notes_keep_their_words() -> None:
    note = cbor(note="cut", seq=4, bytes=300_000)
    (_, cut) = feed([opened(1, "gvisor"), (1, Kind.NOTE, note)])
    assert cut.kind == "note.cut"
    assert json.loads(cut.detail)["bytes"] == 300_000


def test_a_missing_packet_of_the_filter_is_a_gap() -> None:
    gaps = [event for event in feed([opened(2, "netfilter"), *filtered(2, 3, 7)]) if event.kind == "gap"]
    assert [(event.ref, event.result) for event in gaps] == [("4.1", 2), ("4.3", 3)]


def test_the_filter_s_numbers_wrap() -> None:
    found = feed([opened(2, "netfilter"), *filtered(0xFFFF_FFFE, 0xFFFF_FFFF, 0, 1)])
    # From 0 to just below 2^32 would be backwards: how many are missing cannot be told.
    assert [event.result for event in found if event.kind == "gap"] == [None]


def test_an_overrun_is_one_gap_whether_or_not_a_packet_tells_its_size() -> None:
    note = (2, Kind.NOTE, cbor(note="gap", cause="netlink buffer overrun", count=None))
    told = feed([opened(2, "netfilter"), *filtered(0), note, *filtered(9), closed(2)])
    assert [event.result for event in told if event.kind == "gap"] == [8]
    untold = feed([opened(2, "netfilter"), *filtered(0), note, closed(2)])
    assert [(event.object, event.result) for event in untold if event.kind == "gap"] == [
        ("netlink buffer overrun at the end", None)
    ]


@pytest.mark.parametrize("was_closed", [True, False])
def test_a_restarted_receiver_goes_on_with_what_was_known(was_closed: bool) -> None:
    data = gvisor("20260905")
    frames = [opened(1, "gvisor"), *((1, Kind.DATA, d) for d in data[:16]), *([closed(1)] if was_closed else [])]
    frames.append(opened(9, "gvisor", continues="0000000000000001"))
    frames += [(9, Kind.DATA, d) for d in data[16:60]]
    found = feed(frames)
    assert not [event for event in found if event.kind == "gap"]
    # The exec's clone came over the old connection.
    program = next(event for event in found if event.kind == "process.exec" and event.pid == 2)
    assert (program.ppid, program.cwd) == (1, "/home")


GATEWAY = json.dumps(CONNECT).encode(), json.dumps(REQUEST).encode()


@pytest.mark.parametrize("stop", [-1, 4])
def test_what_was_under_way_when_the_gateway_died_is_cut_when_its_successor_begins(stop: int) -> None:
    frames: Frames = [opened(3, "gateway"), *((3, Kind.DATA, data) for data in GATEWAY)]
    head = {**RESPONSE, "stream": True, "end_ns": None, "body": ""}
    frames += [(3, Kind.DATA, json.dumps(head).encode()), opened(9, "gateway", continues="0000000000000003")]
    frames += [*((9, Kind.DATA, data) for data in GATEWAY), (9, Kind.DATA, json.dumps(RESPONSE).encode()), closed(9)]
    found = feed(frames, stop=stop)
    cut, whole = [event for event in found if event.kind == "http.exchange"]
    told = [json.loads(event.detail) for event in (cut, whole)]
    assert (cut.ref, cut.result, told[0]["error"]) == ("4.4", 200, "the gateway was started again before it ended")
    assert (told[0]["refs"], told[0]["response"]["cut"]) == (["4.2", "4.3"], True)
    # The same ids on the successor's stream are another exchange.
    assert (whole.ref, "error" in told[1], told[1]["refs"]) == ("4.7", False, ["4.6", "4.7"])
    assert [event.kind for event in found].count("http.request") == 2
    assert len({(event.ref, event.n) for event in found}) == len(found)


def test_a_stream_without_a_beginning_is_one_by_itself() -> None:
    (event,) = feed([(0xFF, Kind.DATA, b"x")])
    assert (event.kind, event.session) == ("unknown", "unbound-00000000000000ff")


def test_what_the_recorder_says_of_itself_has_a_session_of_its_own() -> None:
    frames: Frames = [(1, Kind.OPEN, cbor(source="collector", pid=1)), (1, Kind.DATA, cbor(act="start"))]
    assert [(event.session, event.kind) for event in feed(frames)] == [
        ("recorder", "stream.open"),
        ("recorder", "collector.start"),
    ]


def dead_gateway() -> Decoder:
    """Of a session that has ended; its gateway died with a request in hand, and nobody took its place."""
    decoder = Decoder()
    feed([opened(1, "lifecycle"), opened(3, "gateway"), (3, Kind.DATA, GATEWAY[1]), closed(1)], decoder)
    return handed_over(decoder)


@pytest.mark.parametrize("stopped", [True, False])
def test_what_a_dead_gateway_left_is_told_out_some_time_after_its_session_ended(stopped: bool) -> None:
    decoder = dead_gateway()
    rows: list[tuple[Any, ...]] = []
    assert decoder.bury(10**9 + GRACE_NS, rows) == []
    (dead,) = decoder.bury(10**9 + GRACE_NS + (0 if stopped else 1), rows, stopped=stopped)
    cut, gap = [Event(*row) for row in rows]
    assert (cut.kind, cut.source, json.loads(cut.detail)["error"]) == ("http.exchange", "gateway", ENDS)
    assert (gap.kind, gap.object, gap.ref, cut.ref) == ("gap", DIED, "4.3", "4.3")
    assert gap.n > cut.n > 1
    assert (dead.id, decoder.streams) == ("0000000000000003", {})


def test_a_gateway_that_is_only_late_is_waited_for() -> None:
    decoder = dead_gateway()
    rows: list[tuple[Any, ...]] = []
    decoder.feed(5, 0, 3, 2, int(Kind.DATA), 2 * 10**9, json.dumps(RESPONSE).encode(), rows)
    assert decoder.bury(10**12, rows) == []
    assert [(event.kind, event.result) for event in (Event(*row) for row in rows)] == [("http.exchange", 200)]


def test_one_recorder_of_two_that_ends_ends_no_session() -> None:
    decoder = Decoder()
    feed([opened(1, "lifecycle"), opened(2, "lifecycle"), opened(3, "gateway"), closed(1)], decoder)
    assert decoder.bury(10**12, []) == []


def test_a_session_whose_recorder_died_is_told_out() -> None:
    decoder = Decoder()
    frames = [opened(1, "lifecycle"), opened(4, "gvisor"), opened(3, "gateway")]
    frames += [(4, Kind.DATA, data) for data in gvisor("20260905")[:18]]  # an exec whose report is yet to come
    asked = [(3, Kind.DATA, json.dumps({**REQUEST, "id": ident}).encode()) for ident in "12"]
    feed([*frames, *asked, opened(2, "netfilter")], decoder)
    rows: list[tuple[Any, ...]] = []
    decoder.abandon("s", "9.9", 0, 10**10, rows)
    assert sorted(row[4] for row in rows) == ["http.exchange", "http.exchange", "process.exec", "stream.total"]
    assert len({(event.ref, event.n) for event in (Event(*row) for row in rows)}) == len(rows)
    assert list(decoder.streams) == [1]
