"""Spool records and files: read back whole, torn anywhere, never confused by garbage."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import StoreError, UsageError
from sandtrail.store import spool as module
from sandtrail.store.frames import Kind, Stamp
from sandtrail.store.position import has_writer, spools
from sandtrail.store.spool import MAX_PAYLOAD, Record, SpoolWriter, encode_record, parse_records

U64 = st.integers(0, 2**64 - 1)
RECORDS = st.tuples(
    st.sampled_from(Kind),
    U64,
    st.integers(0, 2**63),
    st.tuples(U64, U64, U64),
    st.lists(st.binary(max_size=30), min_size=1, max_size=6),
    st.booleans(),
)
Fields = tuple[Kind, int, int, tuple[int, int, int], list[bytes], bool]


def encoded(fields: Fields) -> bytes:
    kind, stream, seq, when, payloads, urgent = fields
    return encode_record(kind, stream, seq, when, payloads, urgent=urgent)


def parsed(data: bytes) -> list[tuple[int, Record]]:
    return list(parse_records(data))


@given(st.lists(RECORDS, max_size=5))
def test_records_are_read_back(all_fields: list[Fields]) -> None:
    data = b"".join(map(encoded, all_fields))
    records = parsed(data)
    assert [end for end, _ in records][-1:] == ([len(data)] if data else [])
    for (_, record), (kind, stream, seq, when, payloads, urgent) in zip(records, all_fields, strict=True):
        assert (record.kind, record.stream, record.seq, record.when) == (kind, stream, seq, Stamp(*when))
        assert record.urgent == urgent
        assert list(record.frames()) == list(enumerate(payloads, seq))


@given(st.lists(RECORDS, min_size=1, max_size=3), st.data())
def test_a_torn_tail_hides_nothing_that_lies_before_it(all_fields: list[Fields], data: st.DataObject) -> None:
    whole = list(map(encoded, all_fields))
    last = data.draw(st.integers(0, len(whole[-1]) - 1))
    records = parsed(b"".join(whole[:-1]) + whole[-1][:last])
    assert len(records) == len(whole) - 1
    assert (records[-1][0] if records else 0) == sum(map(len, whole[:-1]))


@given(RECORDS, st.data())
def test_a_record_with_a_changed_byte_is_none(fields: Fields, data: st.DataObject) -> None:
    record = bytearray(encoded(fields))
    record[data.draw(st.integers(0, len(record) - 1))] ^= data.draw(st.integers(1, 255))
    assert parsed(bytes(record)) == []


@given(st.binary(max_size=300))
def test_garbage_never_raises(data: bytes) -> None:
    for checked in (True, False):
        list(parse_records(data, checked=checked))
        list(parse_records(module.MAGIC + data, checked=checked))


@given(RECORDS, st.lists(st.tuples(st.integers(0, 63), st.integers(0, 255)), max_size=4))
def test_a_header_of_garbage_never_raises_even_unchecked(fields: Fields, changes: list[tuple[int, int]]) -> None:
    record = bytearray(encoded(fields))
    for at, value in changes:
        record[at % len(record)] = value
    for _, parsed_record in parse_records(bytes(record), checked=True):
        list(parsed_record.frames())


def test_a_written_stream_is_opened_numbered_noted_and_closed(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    stream = writer.open({"source": "test"})
    assert stream.write(b"one") == 1
    assert stream.write_many([b"two", b"", b"four"]) == 2
    stream.note({"note": "gap", "count": 1})
    stream.close("done", dropped=0)
    writer.close()
    records = [record for _, record in parsed(writer.path.read_bytes())]
    assert [record.kind for record in records] == [Kind.OPEN, Kind.DATA, Kind.DATA, Kind.NOTE, Kind.CLOSE]
    frames = [frame for record in records for frame in record.frames()]
    assert [seq for seq, _ in frames] == list(range(7))
    assert [payload for _, payload in frames[1:5]] == [b"one", b"two", b"", b"four"]
    assert cbor2.loads(frames[0][1]) == {"source": "test"}
    assert cbor2.loads(frames[5][1]) == {"note": "gap", "count": 1}
    assert cbor2.loads(frames[6][1]) == {"reason": "done", "frames": 6, "dropped": 0}
    assert {record.stream for record in records} == {stream.id}


def test_a_payload_that_no_record_can_hold_is_refused_and_takes_no_number(store: Path) -> None:
    stream = SpoolWriter(store, "source").open({})
    with pytest.raises(UsageError, match="cut"):
        stream.write(bytes(MAX_PAYLOAD + 1))
    assert stream.write(bytes(MAX_PAYLOAD)) == 1


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "..", "a b"])
def test_a_spool_cannot_be_named_so_that_its_file_is_elsewhere(store: Path, name: str) -> None:
    with pytest.raises(UsageError):
        SpoolWriter(store, name)


def test_a_file_has_a_writer_for_as_long_as_somebody_holds_it(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    assert has_writer(writer.path)
    held = os.dup(writer.fileno())
    writer.close()
    assert has_writer(writer.path)
    os.close(held)
    assert not has_writer(writer.path)
    writer.path.unlink()
    assert not has_writer(writer.path)


def test_full_files_are_followed_by_new_ones_in_the_order_of_their_names(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROTATE_AT", 1000)
    writer = SpoolWriter(store, "source")
    stream = writer.open({})
    paths = [writer.path]
    for number in range(60):
        if number == 30:  # the clock is set back by an hour
            monkeypatch.setattr("time.time_ns", lambda: 1)
        stream.write(b"%03d" % number + bytes(97))
        if writer.path != paths[-1]:
            assert has_writer(writer.path)
            assert not has_writer(paths[-1])
            paths.append(writer.path)
    assert len(paths) >= 6
    assert spools(store) == paths
    payloads = [p for path in paths for _, record in parsed(path.read_bytes()) for _, p in record.frames()]
    assert [payload[:3] for payload in payloads[1:]] == [b"%03d" % number for number in range(60)]


def test_what_the_disk_refuses_is_not_in_the_spool_and_everything_before_is(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    stream = writer.open({})
    stream.write(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # A limit in the middle of the record: the first write is short, the second one fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (writer.size + 5000, hard))
    try:
        with pytest.raises(StoreError, match="cannot write to the spool"):
            stream.write(bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert stream.write(b"after") == 2
    data = writer.path.read_bytes()
    records = parsed(data)
    assert records[-1][0] == len(data)
    assert [payload for _, record in records for _, payload in record.frames()][1:] == [b"before", b"after"]


def test_a_successor_goes_on_in_the_file_of_a_dead_writer(store: Path) -> None:
    first = SpoolWriter(store, "source")
    stream = first.open({}, stream=7)
    end = first.size
    stream.write(b"torn away")
    first.close()
    again = SpoolWriter.reopen(first.path)
    assert [record.seq for _, record in parsed(again.rest(end))] == [1]
    again.truncate(end)
    module.Stream(again, 7, 1).write(b"written again")
    again.close()
    frames = [frame for _, record in parsed(first.path.read_bytes()) for frame in record.frames()]
    assert frames[1:] == [(1, b"written again")]
