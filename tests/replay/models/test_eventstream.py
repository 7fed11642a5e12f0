from __future__ import annotations

import struct
import zlib

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.models import eventstream
from tests.boundary.scripted.bedrock import message

names = st.text(min_size=1, max_size=20)
frames = st.lists(
    st.tuples(st.dictionaries(names, st.text(max_size=20), max_size=4), st.binary(max_size=60)), max_size=5
)


def theirs(data: bytes, cuts: list[int]) -> list[tuple[dict[str, object], bytes]]:
    """The messages as the vendor's reader finds them in a stream that comes in these pieces."""
    buffer = EventStreamBuffer()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found = []
    for start, end in zip(places, places[1:], strict=False):
        buffer.add_data(data[start:end])
        found += [(event.headers, event.payload) for event in buffer]
    return found


@settings(max_examples=200, deadline=None)
@given(frames, st.lists(st.integers(0, 1000), max_size=6))
def test_agrees_with_the_vendors_reader_on_whole_streams(
    sent: list[tuple[dict[str, str], bytes]], cuts: list[int]
) -> None:
    data = b"".join(message(headers, payload) for headers, payload in sent)
    found = list(eventstream.parse(data))
    assert [(event.headers, event.payload) for event in found] == theirs(data, cuts) == sent
    assert all(event.whole and not event.problems for event in found)


@settings(max_examples=200, deadline=None)
@given(frames, st.integers(0, 10_000))
def test_a_stream_cut_anywhere_keeps_all_that_came(sent: list[tuple[dict[str, str], bytes]], cut: int) -> None:
    data = b"".join(message(headers, payload) for headers, payload in sent)
    data = data[: cut % (len(data) + 1)]
    found = list(eventstream.parse(data))
    whole = [(event.headers, event.payload) for event in found if event.whole]
    assert whole == theirs(data, []) == sent[: len(whole)]
    rest = data[sum(len(message(*one)) for one in sent[: len(whole)]) :]
    assert len(found) == len(whole) + bool(rest)
    if rest:
        last = found[-1]
        assert last.problems
        assert sent[len(whole)][1].startswith(last.payload)


def test_a_changed_byte_is_named_and_the_message_kept() -> None:
    data = bytearray(message({"a": "b"}, b"hello") + message({}, b"next"))
    data[20] ^= 1
    with pytest.raises(ChecksumMismatch):
        theirs(bytes(data), [])
    first, second = eventstream.parse(bytes(data))
    assert first.problems == ["checksum of a message does not match"]
    assert (first.payload, second.payload, second.problems) == (b"hemlo", b"next", [])


def test_a_prelude_whose_checksum_differs_is_named() -> None:
    data = bytearray(message({}, b"hello"))
    data[8] ^= 1
    (found,) = eventstream.parse(bytes(data))
    assert "checksum of a prelude does not match" in found.problems
    assert found.payload == b"hello"
    assert not eventstream.looks_like(bytes(data))


@pytest.mark.parametrize("lengths", [(0, 0), (15, 0), (20, 9), (0xFFFFFFFF, 0), (30 << 20, 0), (1 << 20, 200_000)])
def test_lengths_that_cannot_be_are_named_and_the_next_message_found(lengths: tuple[int, int]) -> None:
    prelude = struct.pack(">II", *lengths)
    data = prelude + struct.pack(">I", zlib.crc32(prelude)) + b"rest"
    first, second = eventstream.parse(data + message({":event-type": "x"}, b"next"))
    assert (first.payload, first.whole) == (data, False)
    assert "cannot be" in first.problems[-1]
    assert (second.payload, second.problems) == (b"next", [])
    (alone,) = eventstream.parse(data)
    assert alone.payload == data


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("mark", [b"[a mark that is longer than the secret]", b"*"])
def test_a_stream_in_which_a_secret_was_replaced_is_read_on(place: int, mark: bytes) -> None:
    payloads = [b'{"t":"one"}', b'{"t":"two"}', b'{"t":"three"}']
    payloads[place] = b'{"t":"my secret here"}'
    data = b"".join(message({":event-type": "chunk"}, payload) for payload in payloads)
    found = list(eventstream.parse(data.replace(b"my secret here", mark)))
    payloads[place] = b'{"t":"' + mark + b'"}'
    if place == 2 and len(mark) < 10:  # the last may as well have been cut off
        assert found[2].payload.startswith(payloads.pop())
        assert not found.pop().whole
    assert [event.payload for event in found] == payloads
    assert [bool(event.problems) for event in found] == [number == place for number in range(len(found))]
    assert all(event.headers == {":event-type": "chunk"} for event in found)


def test_something_between_messages_does_not_spoil_the_one_before() -> None:
    data = message({":event-type": "x"}, b"one") + b"noise, more than a prelude" + message({":event-type": "x"}, b"two")
    first, noise, second = eventstream.parse(data)
    assert [(e.payload, e.problems) for e in (first, second)] == [(b"one", []), (b"two", [])]
    assert noise.problems


def test_lengths_that_lie_take_linear_time() -> None:
    heads = b"\x0b:event-type\x07\x00\x01x"
    prelude = struct.pack(">II", 4 << 20, len(heads))
    lie = prelude + struct.pack(">I", zlib.crc32(prelude)) + heads
    assert len(list(eventstream.parse(lie * 50_000))) == 50_000


def test_headers_of_all_types_are_shown() -> None:
    heads = b"".join(
        bytes([1]) + name + bytes([kind]) + value
        for name, kind, value in [
            (b"t", 0, b""),
            (b"f", 1, b""),
            (b"b", 2, b"\xff"),
            (b"h", 3, b"\x01\x00"),
            (b"i", 4, b"\x00\x00\x00\x05"),
            (b"l", 5, b"\xff" * 8),
            (b"y", 6, b"\x00\x02hi"),
            (b"m", 8, b"\x00" * 7 + b"\x09"),
            (b"u", 9, b"\xab" * 16),
        ]
    )
    prelude = struct.pack(">II", 16 + len(heads), len(heads))
    data = prelude + struct.pack(">I", zlib.crc32(prelude)) + heads
    data += struct.pack(">I", zlib.crc32(data))
    (found,) = eventstream.parse(data)
    assert list(found.headers.values()) == ["true", "false", "-1", "256", "5", "-1", "6869", "9", "ab" * 16]
    ((headers, _),) = theirs(data, [])
    assert list(headers) == list(found.headers)


def test_headers_that_make_no_sense_are_named() -> None:
    prelude = struct.pack(">II", 20, 4)
    data = prelude + struct.pack(">I", zlib.crc32(prelude)) + b"\x01a\x63x"
    data += struct.pack(">I", zlib.crc32(data))
    (found,) = eventstream.parse(data)
    assert found.problems[0].startswith("headers cannot be read further")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300), st.binary(max_size=8))
def test_no_bytes_raise(noise: bytes, place: int, more: bytes) -> None:
    list(eventstream.parse(noise))
    data = message({":event-type": "chunk"}, noise)
    place %= len(data)
    list(eventstream.parse(data[:place] + more + data[place + len(more) :]))
