"""Whatever the bytes are: no decoder raises, every row fits its columns, and what went in can be accounted for."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.decode.decoder import Decoder
from sandtrail.replay.decode.gvisor.schema import CLASSES, KINDS
from sandtrail.replay.decode.packets import read_dns, read_packet, server_name
from sandtrail.replay.decode.sockaddr import read_sockaddr
from sandtrail.replay.decode.text import MAX_DETAIL, clean, fit, text, to_json
from sandtrail.replay.decode.tree import describe
from sandtrail.replay.events import to_table
from sandtrail.store.frames import Kind
from tests.replay.decode.recorded import VERSIONS, gvisor, netfilter, packet

SOURCES = ("gvisor", "netfilter", "conntrack", "gateway", "lifecycle", "collector", "else")
REAL: dict[str, list[bytes]] = {
    "gvisor": [data for version in VERSIONS for data in gvisor(version)],
    "netfilter": netfilter("nflog"),
    "conntrack": netfilter("conntrack"),
}
WORDS = ["connect", "request", "response", "chunk", "error", "close", "tls", "tcp", "websocket", "request_chunk"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def run(source: str, frames: Sequence[tuple[int, bytes]], **descriptor: Any) -> list[tuple[Any, ...]]:
    """All rows of one stream of `source`, from its OPEN to its CLOSE."""
    decoder = Decoder()
    rows: list[tuple[Any, ...]] = []
    opened = cbor2.dumps({"source": source, "session": "s", "sandbox": "sb", **descriptor})
    for seq, (kind, payload) in enumerate([(Kind.OPEN, opened), *frames]):
        decoder.feed(1, seq, 7, seq, int(kind), 1000 + seq, payload, rows)
        assert isinstance(describe(source, int(kind), payload), dict)
    decoder.tick(10**18, rows)
    closed = cbor2.dumps({"reason": "end", "frames": len(frames)})
    decoder.feed(1, len(frames) + 1, 7, len(frames) + 1, int(Kind.CLOSE), 2000, closed, rows)
    assert not decoder.streams
    check(rows)
    return rows


def check(rows: list[tuple[Any, ...]]) -> None:
    to_table(rows).validate(full=True)
    names = [(row[0], row[-1]) for row in rows]
    assert len(set(names)) == len(names), "two events of one frame have the same number"
    for row in rows:
        for value in row:
            if isinstance(value, str):
                value.encode()
                assert "\0" not in value
        assert isinstance(json.loads(row[21]), dict)
        assert len(row[21]) <= 4 * MAX_DETAIL


def mutate(data: bytes, chance: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(4):
            case 0 if out:
                out[at % len(out)] ^= 1 << chance.randrange(8)
            case 1:
                del out[at : at + chance.randrange(1, 9)]
            case 2:
                out[at:at] = chance.randbytes(chance.randrange(1, 9))
            case _:
                out[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
    return bytes(out)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SOURCES), st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=200)), max_size=8))
def test_any_bytes_as_any_frame(source: str, frames: list[tuple[int, bytes]]) -> None:
    frames = [(kind, payload) for kind, payload in frames if kind not in (Kind.OPEN, Kind.CLOSE)]
    run(source, frames)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(REAL)), st.integers(min_value=0), st.integers(min_value=0))
def test_real_bytes_with_a_little_wrong(source: str, seed: int, start: int) -> None:
    chance = random.Random(seed)
    real = REAL[source]
    begin = start % len(real)
    taken = [mutate(data, chance) if chance.random() < 0.5 else data for data in real[begin : begin + 60]]
    rows = run(source, [(Kind.DATA, data) for data in taken])
    # Every frame but raw beginnings and parts of longer calls leaves a trace.
    assert len(rows) >= len(taken) // 3


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=120), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF))
def test_any_body_under_a_real_header(kind: int, body: bytes, size: int, dropped: int) -> None:
    for header in (8, size):
        data = header.to_bytes(2, "little") + kind.to_bytes(2, "little") + dropped.to_bytes(4, "little") + body
        run("gvisor", [(Kind.DATA, data)])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_values_in_real_messages(data: st.DataObject) -> None:
    """Well-formed messages whose fields hold anything that their types can hold."""
    packets = []
    for _ in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.sampled_from(sorted(KINDS)))
        fields = {}
        for field in CLASSES[kind].DESCRIPTOR.fields:
            if field.message_type is not None or data.draw(st.booleans()):
                continue
            value: st.SearchStrategy[Any]
            match field.cpp_type:
                case field.CPPTYPE_STRING:
                    value = st.binary(max_size=40)
                case field.CPPTYPE_BOOL:
                    value = st.booleans()
                case field.CPPTYPE_INT32:
                    value = st.integers(-(1 << 31), (1 << 31) - 1)
                case field.CPPTYPE_INT64:
                    value = st.integers(-(1 << 63), (1 << 63) - 1)
                case field.CPPTYPE_UINT32:
                    value = st.integers(0, (1 << 32) - 1)
                case _:
                    value = st.integers(0, (1 << 64) - 1)
            fields[field.name] = data.draw(st.lists(value, max_size=3) if field.is_repeated else value)
        if "exit" in CLASSES[kind].DESCRIPTOR.fields_by_name and data.draw(st.booleans()):
            whole = st.integers(-(1 << 63), (1 << 63) - 1)
            fields["exit"] = {"result": data.draw(whole), "errorno": data.draw(st.just(0) | whole)}
        packets.append(packet(KINDS[kind][0], who=data.draw(st.sampled_from([(0, 0), (7, 7), (7, 8)])), **fields))
    run("gvisor", [(Kind.DATA, p) for p in packets], sees=["syscall/open/exit", "syscall/openat/exit"])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["gateway", "lifecycle"]), st.lists(JSON, max_size=4), st.sampled_from(WORDS))
def test_any_json(source: str, values: list[Any], kind: str) -> None:
    frames = []
    for value in values:
        told = {"t": kind, "act": kind, **value} if isinstance(value, dict) else value
        frames.append((Kind.DATA, json.dumps(told).encode()))
        keys = ("flow", "id", "url", "status", "client", "body_bytes", "exit_status", "start_ns", "end_ns", "data")
        told = {"t": kind, "act": kind, **dict.fromkeys(keys, value)}
        frames.append((Kind.DATA, json.dumps(told).encode()))
    run(source, frames)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["gap", "cut", "error", "attach", "evicted", "clock", "\ud800\0 x"]), JSON)
def test_any_note_and_any_descriptor(note: str, value: Any) -> None:
    keys = ("cause", "count", "after_seq", "from_ns", "to_ns", "seq", "words")
    plain = json.loads(json.dumps(value))
    frames = [
        (Kind.NOTE, cbor2.dumps({"note": note.encode("utf-8", "replace").decode(), **dict.fromkeys(keys, plain)}))
    ]
    for source in SOURCES:
        run(source, frames, machine=plain, sees=plain, sandbox_address=plain, command=plain)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_a_packet_a_name_or_an_address(data: bytes) -> None:
    for kind in (0, 0x800, 0x86DD, 0x806):
        read_packet(data, kind)
    read_dns(data)
    read_dns(data, stream=True)
    server_name(data)
    server_name(b"\x16\x03\x01\x00\x50\x01\x00\x00\x4c\x03\x03" + data)
    read_sockaddr(data).name.encode()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
def test_text_is_unicode_and_no_longer_than_allowed(data: bytes, limit: int) -> None:
    found = text(data, limit)
    found.encode()
    assert len(found) <= 4 * limit
    assert clean(found, 4 * 300) == found


@settings(max_examples=200, deadline=None)
@given(JSON, st.integers(0, 200))
def test_a_detail_fits_its_room(value: Any, room: int) -> None:
    found = to_json({"value": fit(value, room)})
    json.loads(found)
    found.encode()
    # Each level, key and number has a constant cost beside its text.
    assert len(found) <= 14 * (room + 400)
