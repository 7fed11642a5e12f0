"""Log entries: what is written is read back, and nothing else is."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError
from sandtrail.store.manifest import ENTRY_KINDS, FORMAT, decode_entry, encode_entry

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**64 - 1) | st.text(max_size=10) | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
FIELDS = st.dictionaries(st.text(max_size=8).filter(lambda name: name not in ("v", "kind")), VALUES, max_size=6)


@given(st.sampled_from(sorted(ENTRY_KINDS)), FIELDS)
def test_an_entry_is_read_back_and_has_one_spelling(kind: str, fields: dict[str, object]) -> None:
    data = encode_entry(kind, fields)
    entry = decode_entry(7, data)
    assert (entry.index, entry.kind) == (7, kind)
    assert entry.map == {"v": FORMAT, "kind": kind, **fields}
    assert encode_entry(kind, dict(reversed(list(fields.items())))) == data


@given(st.binary(max_size=100))
def test_garbage_is_damaged_and_nothing_else(data: bytes) -> None:
    with pytest.raises(DamagedError, match="log entry 3"):
        decode_entry(3, data)


@given(VALUES)
def test_any_other_cbor_is_damaged(value: object) -> None:
    with pytest.raises(DamagedError):
        decode_entry(0, cbor2.dumps(value, canonical=True))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x81" * 5000,
        cbor2.dumps({"v": FORMAT, "kind": "party"}, canonical=True),
        cbor2.dumps({"v": FORMAT + 1, "kind": "start"}, canonical=True),
        cbor2.dumps({"kind": "start", "v": FORMAT}),
        encode_entry("start", {}) + b"\0",
        encode_entry("start", {})[:-1],
        cbor2.dumps({"v": FORMAT, "kind": ["start"]}, canonical=True),
        b"\xa2\x61v\x01\x61v\x01",
    ],
    ids=["empty", "deep", "kind", "format", "order", "longer", "shorter", "type", "twice"],
)
def test_what_is_nearly_an_entry_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedError):
        decode_entry(0, data)


def test_every_flipped_bit_of_an_entry_is_damaged_or_says_something_else() -> None:
    data = encode_entry("start", {"at": [1, 2, 3], "version": "1"})
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            try:
                entry = decode_entry(0, bytes(changed))
            except DamagedError:
                continue
            assert encode_entry(entry.kind, {k: v for k, v in entry.map.items() if k not in ("v", "kind")}) == changed
