"""gVisor's handshake: read whatever fields a later version may add, and nothing that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.handshake import REPLY, handshake_version


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_our_answer_is_a_handshake_of_version_one() -> None:
    assert handshake_version(REPLY) == 1


@given(st.integers(1, 2**64 - 1))
def test_any_version_is_read(version: int) -> None:
    assert handshake_version(b"\x08" + varint(version)) == version


@given(st.integers(2, 2**29 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=60))
def test_fields_of_later_versions_are_skipped(number: int, value: int, data: bytes) -> None:
    later = varint(number << 3) + varint(value) + varint(number << 3 | 2) + varint(len(data)) + data
    assert handshake_version(b"\x08\x02" + later) == 2
    assert handshake_version(later + b"\x08\x02") == 2


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x08",
        b"\x08\x00",
        b"\x08\x80",
        b"\x08" + b"\x80" * 20 + b"\x01",
        b"\x08\x01\x12\x05abc",
        b"\x00\x01",
        b"\x0d\x01\x00\x00\x00",
        b"\x12\x00",
        b"\x08\x01" * 300,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_handshake_has_no_version(packet: bytes) -> None:
    assert handshake_version(packet) is None


@given(st.binary(max_size=600))
def test_garbage_never_raises(packet: bytes) -> None:
    version = handshake_version(packet)
    assert version is None or version > 0
