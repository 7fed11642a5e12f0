"""Whatever a frame holds, its fields are a tree that any reader of JSON takes."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
from typing import Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.api.body import MAX_SHOWN, body_of
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


def carrying(body: bytes, *headers: list[str], **more: Any) -> bytes:
    frame = {"t": "response", "headers": list(headers), "body": base64.b64encode(body).decode(), **more}
    return json.dumps(frame).encode()


def test_a_body_is_read_without_its_content_coding() -> None:
    said = "the page, fetched: <b>é</b>".encode()
    found = body_of(carrying(gzip.compress(said), ["Content-Encoding", "gzip"], ["Content-Type", "text/html; x=y"]))
    assert found is not None
    assert found.as_dict() == {
        "bytes": len(said),
        "recorded": len(gzip.compress(said)),
        "media": "text/html",
        "problems": [],
        "text": said.decode(),
        "truncated": False,
    }


def test_a_long_body_is_shown_to_a_whole_character_and_what_is_no_text_is_not() -> None:
    long = body_of(carrying("é".encode() * MAX_SHOWN))
    odd = body_of(carrying(b"x" + "é".encode() * MAX_SHOWN))
    image = body_of(carrying(b"\x89PNG\xff" * 100))
    assert long is not None
    assert odd is not None
    assert image is not None
    assert (len(long.as_dict()["text"]), long.as_dict()["truncated"]) == (MAX_SHOWN // 2, True)
    assert len(odd.as_dict()["text"]) == MAX_SHOWN // 2
    assert (image.as_dict()["text"], image.as_dict()["bytes"]) == (None, 500)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | values.map(lambda v: repr(v).encode()))
def test_any_frame_has_a_body_or_none(payload: bytes) -> None:
    found = body_of(payload)
    strict(found.as_dict() if found is not None else None)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["gzip", "br", "zstd", "deflate", "gzip, gzip", "x", ""]), values)
def test_any_body_under_any_coding_is_shown(body: bytes, coding: str, headers: Any) -> None:
    found = body_of(carrying(body, ["content-encoding", coding]))
    strict(found.as_dict() if found is not None else None)
    assert (found is None) is (not body)
    with contextlib.suppress(TypeError, ValueError):  # what JSON cannot say is in no frame
        body_of(json.dumps({"body": base64.b64encode(body).decode(), "headers": headers}).encode())
