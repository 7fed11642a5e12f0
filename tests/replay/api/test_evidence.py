"""Whatever a frame holds, its fields are a tree that any reader of JSON takes."""

from __future__ import annotations

import json
from typing import Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.api.evidence import MAX_ITEMS, fields, tree
from sandtrail.store.frames import Kind
from tests.replay.api.conftest import packets

SOURCES = ("gvisor", "gateway", "lifecycle", "netfilter", "conntrack", "collector", "", "\x1b")


def strict(value: Any) -> None:
    json.dumps(value, allow_nan=False).encode()
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SOURCES), st.sampled_from(list(Kind)), st.binary(max_size=200))
def test_any_bytes(source: str, kind: Kind, payload: bytes) -> None:
    strict(fields(source, kind, payload))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(packets()), st.data())
def test_real_packets_with_a_byte_changed(packet: bytes, data: st.DataObject) -> None:
    changed = bytearray(packet)
    changed[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    strict(fields("gvisor", Kind.DATA, bytes(changed)))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
)


@given(values)
def test_any_map_of_the_recorder(value: Any) -> None:
    strict(fields("gvisor", Kind.NOTE, cbor2.dumps({"note": value})))


def test_what_json_cannot_say_is_said_in_words() -> None:
    found = fields("gateway", Kind.DATA, b'{"a": NaN, "b": 1e400, "c": "\\ud800", "d": 123456789012345678901234567890}')
    assert found == {"a": "nan", "b": "inf", "c": "\\ud800", "d": "0x18ee90ff6c373e0ee4e3f0ad2"}


def test_size_and_depth_are_bounded() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    strict(tree(deep))
    assert len(tree(list(range(10_000)))) == MAX_ITEMS + 1
    assert len(tree("x" * 10**6)) < 30_000
