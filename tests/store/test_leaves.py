"""The leaf that commits to a frame: against its definition, in Python and in C, of records that are none too."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandtrail.store import native
from sandtrail.store.leaves import frame_leaf, record_leaves
from sandtrail.store.spool import encode_record

pytestmark = pytest.mark.usefixtures("each_way_of_hashing")

U64 = st.integers(0, 2**64 - 1)
PAYLOADS = st.lists(st.binary(max_size=300), min_size=1, max_size=20)
RECORDS = st.lists(st.tuples(st.integers(0, 255), U64, st.integers(0, 2**64 - 20), st.tuples(U64, U64, U64), PAYLOADS))
ONE = encode_record(2, 7, 5, (1, 2, 3), [b"one", b"", b"three"])


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


@given(RECORDS, st.booleans())
@example([(255, 2**64 - 1, 2**64 - 2, (2**64 - 1,) * 3, [b"", b"the last that can be"])], True)
@example([(2, 0, 0, (0, 0, 0), [bytes(1 << 20)])], False)
def test_leaves_are_those_of_the_format(
    records: list[tuple[int, int, int, tuple[int, int, int], list[bytes]]], salted: bool
) -> None:
    made, salts, leaves = b"", b"", b""
    for kind, stream, first, when, payloads in records:
        made += encode_record(kind, stream, first, when, payloads)
        for seq, payload in enumerate(payloads, first):
            salt = sha256(len(salts).to_bytes(8)).digest() if salted else b""
            salts += salt
            leaves += defined(stream, seq, kind, when, payload, salt)
    assert record_leaves(made, salts) == leaves


@pytest.mark.parametrize(
    ("records", "salts"),
    [
        (ONE[:-1], b""),
        (ONE[:59], b""),
        (ONE + b"S", b""),
        (ONE + ONE[:-1], b""),
        (b"no record " * 10, b""),
        (ONE, bytes(32)),
        (ONE, bytes(95)),
        (ONE, bytes(128)),
        (b"", bytes(32)),
    ],
)
def test_what_does_not_add_up_has_no_leaves(records: bytes, salts: bytes) -> None:
    with pytest.raises(ValueError):
        record_leaves(records, salts)


def refused_or_made(records: bytes, salts: bytes) -> bytes | None:
    try:
        return record_leaves(records, salts)
    except ValueError:
        return None


NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 12, 19, 20, 21, 0x3FFFFFFF, 0x40000000, 0x80000000, 0xFFFFFFFF])


@pytest.mark.needs("hashing-in-c")
@given(
    st.lists(PAYLOADS, max_size=3),
    st.lists(st.tuples(st.integers(0, 200), NUMBERS | st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4]))),
    st.integers(-4, 4),
    st.binary(max_size=64) | st.integers(0, 60).map(lambda count: bytes(32 * count)),
)
@example([[b"a", b"b"]], [(60, 0xFFFFFFFF, 4), (64, 3, 4)], 0, b"")
@example([[b"a", b"b"]], [(8, 0x40000000, 4)], 0, b"")
@example([[b"a", b"b"]], [(24, 0xFFFFFFFF, 4), (28, 0xFFFFFFFF, 4)], 0, b"")
@example([[b"a"]], [(8, 0, 4), (12, 0, 4)], -4, b"")
def test_c_and_python_refuse_the_same_and_make_the_same(
    records: list[list[bytes]], damage: list[tuple[int, int, int]], change: int, salts: bytes
) -> None:
    """Whatever is written over a record's lengths and numbers, at whatever place it ends."""
    data = bytearray().join(encode_record(2, 7, 5, (1, 2, 3), payloads) for payloads in records)
    for at, number, width in damage:
        if at + width <= len(data):
            data[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
    hostile = bytes(data[:change] if change < 0 else data + bytes(change))
    as_it_is = refused_or_made(hostile, salts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "hashing", None)
        assert refused_or_made(hostile, salts) == as_it_is


@pytest.mark.needs("hashing-in-c")
def test_c_takes_bytes_and_nothing_else() -> None:
    from sandtrail.store import _hashing

    for wrong in ((), (b"",), (b"",) * 3, (ONE, None), (None, b""), (ONE, ""), ([1], b"")):
        with pytest.raises(TypeError):
            _hashing.leaves(*wrong)
    for level in (None, 7, "a" * 64):
        with pytest.raises(TypeError):
            _hashing.nodes(level)  # type: ignore[arg-type]
    with pytest.raises((BufferError, ValueError)):
        _hashing.nodes(memoryview(bytes(128))[::2])
    assert _hashing.nodes(b"") == b""
