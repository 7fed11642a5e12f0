from __future__ import annotations

import base64
import json
import time
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.decode.stdio import MAX_LINE, Drafted, StdioStream


def frame(data: bytes, name: str = "stdout", **more: Any) -> bytes:
    told = {"t": name, "at_ns": 5, "bytes": len(data), "data": base64.b64encode(data).decode(), **more}
    return json.dumps(told).encode()


def messages(events: list[Drafted]) -> list[Any]:
    return [event[4]["message"] for event in events if event[0] == "mcp.message"]


def ask(number: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": "t", "arguments": {"é": number}}}


lines = st.lists(st.integers(0, 50).map(ask) | st.text(max_size=20).filter(lambda t: "\n" not in t), max_size=8)


@settings(deadline=None)
@given(lines, st.lists(st.integers(1, 60), max_size=20), st.booleans())
def test_messages_are_found_however_the_bytes_are_cut(told: list[Any], sizes: list[int], stop: bool) -> None:
    data = "\n".join(json.dumps(line, ensure_ascii=False) if isinstance(line, dict) else line for line in told).encode()
    stream, events = StdioStream(), []
    for size in sizes:
        events += stream.feed(frame(data[:size]))
        data = data[size:]
        if stop:
            state, stream = cbor2.dumps(stream.dump()), StdioStream()
            stream.load(cbor2.loads(state))
    events += stream.feed(frame(data, end=True))
    assert messages(events) == [line for line in told if isinstance(line, dict)]


def test_the_two_directions_do_not_mix_and_stderr_is_for_people() -> None:
    stream = StdioStream()
    half = json.dumps(ask(1)).encode()
    events = stream.feed(frame(half[:20], "stdin")) + stream.feed(frame(json.dumps(ask(2)).encode() + b"\n"))
    events += stream.feed(frame(half[20:] + b"\n", "stdin")) + stream.feed(frame(half + b"\n", "stderr"))
    assert [event[4]["on"] for event in events if event[0] == "mcp.message"] == ["stdout", "stdin"]
    assert [event[0] for event in events if event[0] != "mcp.message"] == [
        "stdio.stdin",
        "stdio.stdout",
        "stdio.stdin",
        "stdio.stderr",
    ]


def test_a_line_without_end_is_let_go_and_what_follows_is_read() -> None:
    stream = StdioStream()
    for _ in range(20):
        assert messages(stream.feed(frame(b"x" * (MAX_LINE // 8)))) == []
    assert sum(map(len, stream.lines.values())) == 0 or len(stream.lines["stdout"]) <= MAX_LINE
    assert messages(stream.feed(frame(b'"jsonrpc" \n' + json.dumps(ask(3)).encode() + b"\n"))) == [ask(3)]


def test_a_line_in_many_pieces_takes_time_in_proportion_to_its_length() -> None:
    stream, piece = StdioStream(), frame(b"x")
    begun = time.process_time()
    for _ in range(MAX_LINE // 4):
        stream.feed(piece)
    assert time.process_time() - begun < 6  # it took nine, and four times that for twice as many, while each was a copy


def test_a_batch_is_its_messages() -> None:
    both = json.dumps([ask(1), "no message", ask(2)]).encode()
    assert messages(StdioStream().feed(frame(both + b"\n"))) == [ask(1), ask(2)]


def test_a_message_that_is_not_utf_8_is_told_as_far_as_it_is_text() -> None:
    (told,) = messages(StdioStream().feed(frame(b'{"jsonrpc": "2.0", "method": "a", "params": {"x": "\xff"}}\n')))
    assert told["params"] == {"x": "\ufffd"}


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_message_that_is_too_long_to_be_read_says_so_once(pieces: int) -> None:
    line = json.dumps({**ask(1), "more": "x" * MAX_LINE}).encode() + b"\n"
    size, stream = len(line) // pieces + 1, StdioStream()
    events = [e for at in range(0, len(line), size) for e in stream.feed(frame(line[at : at + size]))]
    told = [event for event in events if event[0] != "stdio.stdout"]
    assert [(event[0], event[2]) for event in told] == [
        ("unknown", f"a message over stdio of more than {MAX_LINE} bytes is not read")
    ]


@given(
    st.binary(max_size=200)
    | st.fixed_dictionaries(
        {
            "t": st.sampled_from(["stdin", "x", []]),
            "data": st.text(max_size=9) | st.none(),
            "at_ns": st.integers() | st.text(max_size=3),
        }
    ).map(lambda d: json.dumps(d).encode())
)
def test_nothing_makes_it_raise(payload: bytes) -> None:
    for event in StdioStream().feed(payload):
        json.dumps(event)
