"""The leaf that commits to a frame: against its definition, in Python and in C, with numbers that do not add up too."""

from __future__ import annotations

import struct
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandtrail.store.leaves import frame_leaf, frame_leaves

pytestmark = pytest.mark.usefixtures("each_way_of_hashing")

U64 = st.integers(0, 2**64 - 1)
WHEN = st.tuples(U64, U64, U64)
PAYLOADS = st.lists(st.binary(max_size=300), max_size=20)


def defined(stream: int, seq: int, kind: int, when: tuple[int, ...], payload: bytes, salt: bytes) -> bytes:
    """As docs/log-format.md has it."""
    numbers = [*((one, 8) for one in (stream, seq)), (kind, 1), *((one, 8) for one in when)]
    return sha256(b"\0" + salt + b"".join(one.to_bytes(width, "little") for one, width in numbers) + payload).digest()


@given(st.tuples(U64, U64, st.integers(0, 255), U64, U64, U64, st.binary(max_size=20)), st.integers(0, 6))
def test_a_leaf_commits_to_every_field(fields: tuple[int, int, int, int, int, int, bytes], which: int) -> None:
    def leaf(stream: int, seq: int, kind: int, real: int, mono: int, boot: int, payload: bytes) -> bytes:
        return frame_leaf(stream, seq, kind, (real, mono, boot), payload)

    *numbers, payload = fields
    changed = [number ^ (place == which) for place, number in enumerate(numbers)]
    other = leaf(*changed, payload + b"\0" * (which == 6))  # type: ignore[arg-type, call-arg]
    assert other != leaf(*fields)


@given(U64, st.integers(0, 2**64 - 21), st.integers(0, 255), WHEN, PAYLOADS, st.booleans())
@example(2**64 - 1, 2**64 - 2, 255, (2**64 - 1,) * 3, [b"", b"the last that can be"], True)
@example(0, 0, 0, (0, 0, 0), [bytes(1 << 20)], False)
def test_leaves_are_those_of_the_format(
    stream: int, seq: int, kind: int, when: tuple[int, int, int], payloads: list[bytes], salted: bool
) -> None:
    salts = [sha256(bytes([at])).digest() if salted else b"" for at in range(len(payloads))]
    joined = memoryview(b"".join(payloads))
    made = frame_leaves(stream, seq, kind, when, list(map(len, payloads)), joined, b"".join(salts))
    frames = enumerate(zip(payloads, salts, strict=True), seq)
    assert made == b"".join(defined(stream, at, kind, when, payload, salt) for at, (payload, salt) in frames)


def test_of_no_frames_there_are_no_leaves() -> None:
    assert frame_leaves(1, 2**64 - 1, 2, (3, 4, 5), (), b"") == b""


@given(
    st.integers(-1, 2**64),
    st.lists(st.integers(-2, 2**33), max_size=6),
    st.binary(max_size=40),
    st.binary(max_size=200),
)
@example(2**64 - 1, [1, 1], b"ab", b"")
@example(0, [2**32], b"", b"")
@example(0, [2, -1], b"a", b"")
@example(0, [1, 1], b"ab", bytes(32))
@example(0, [1], b"a", bytes(64))
@example(0, [], b"", bytes(32))
@example(0, [], b"a", b"")
def test_what_does_not_add_up_is_refused(seq: int, lengths: list[int], payloads: bytes, salts: bytes) -> None:
    fits = all(length >= 0 for length in lengths) and 0 <= seq <= 2**64 - max(1, len(lengths))
    if fits and sum(lengths) == len(payloads) and len(salts) in (0, 32 * len(lengths)):
        assert len(frame_leaves(1, seq, 2, (3, 4, 5), lengths, payloads, salts)) == 32 * len(lengths)
    else:
        with pytest.raises((ValueError, struct.error)):
            frame_leaves(1, seq, 2, (3, 4, 5), lengths, payloads, salts)


BYTES = st.binary(max_size=100)


@pytest.mark.needs("hashing-in-c")
@given(st.binary(min_size=41, max_size=41) | BYTES, BYTES, BYTES, st.binary(min_size=32, max_size=64) | BYTES)
@example(bytes(41), b"\xff" * 8, bytes(40), b"")
@example(bytes(41), b"\1\0\0\0\xff\xff\xff\xff", bytes(100), bytes(64))
@example(b"\xff" * 41, bytes(8), b"", bytes(64))
def test_c_trusts_no_length(fields: bytes, lengths: bytes, payloads: bytes, salts: bytes) -> None:
    from sandtrail.store import _hashing

    sizes = struct.unpack(f"<{len(lengths) // 4}I", lengths[: len(lengths) // 4 * 4])
    fits = len(fields) == 41 and len(lengths) % 4 == 0 and sum(sizes) == len(payloads)
    if fits and len(salts) in (0, 32 * len(sizes)):
        assert len(_hashing.leaves(fields, lengths, payloads, salts)) == 32 * len(sizes)
    else:
        with pytest.raises(ValueError):
            _hashing.leaves(fields, lengths, payloads, salts)


@pytest.mark.needs("hashing-in-c")
def test_c_refuses_what_is_no_bytes() -> None:
    from sandtrail.store import _hashing

    for wrong in ((), (b"",) * 3, (bytes(41), b"", b"", None), (bytes(41), [1], b"a", b""), (bytes(41), b"", "", b"")):
        with pytest.raises(TypeError):
            _hashing.leaves(*wrong)
    for level in (None, 7, "a" * 64):
        with pytest.raises(TypeError):
            _hashing.nodes(level)  # type: ignore[arg-type]
    with pytest.raises((BufferError, ValueError)):
        _hashing.nodes(memoryview(bytes(128))[::2])
