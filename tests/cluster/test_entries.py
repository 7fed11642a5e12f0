"""Entries of a cluster's log: what is written is read back, and nothing else is read."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.cluster.entries import MAX_NOTE, MAX_PROOF, decode_entry, encode_entry
from sandtrail.errors import DamagedError
from sandtrail.store.tiles import MAX_ENTRY

TEXT = st.text(min_size=1, max_size=40)
NUMBER = st.integers(0, (1 << 63) - 1)
NOTE = st.binary(max_size=200)
PROOF = st.lists(st.binary(min_size=32, max_size=32), max_size=MAX_PROOF)
SENT = st.fixed_dictionaries({"origin": TEXT, "old": NUMBER, "proof": PROOF, "note": NOTE})
ENTRIES: st.SearchStrategy[tuple[str, dict[str, Any]]] = st.one_of(
    st.tuples(
        st.just("node"),
        st.fixed_dictionaries(
            {"origin": TEXT, "identity": TEXT, "first_epoch": st.none() | TEXT, "retired": st.booleans()}
        ),
    ),
    st.tuples(st.sampled_from(["checkpoint", "refused"]), SENT),
    st.tuples(
        st.just("silence"),
        st.fixed_dictionaries({"origin": TEXT, "since": st.lists(NUMBER, min_size=3, max_size=3), "size": NUMBER}),
    ),
    st.tuples(st.just("equivocation"), st.fixed_dictionaries({"origin": TEXT, "held": NOTE, "note": NOTE})),
)
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 1.5, "", "x" * 3000, b"", b"x", [], [1], {}, 1 << 63, [b"x" * 31]]
)


@given(ENTRIES)
def test_what_was_written_is_read_back(entry: tuple[str, dict[str, Any]]) -> None:
    kind, fields = entry
    found = decode_entry(7, encode_entry(kind, **fields))
    assert (found.index, found.kind) == (7, kind)
    assert {key: found.map[key] for key in fields} == fields
    assert list(found.at) == found.map["at"]


@given(ENTRIES, st.data())
def test_a_field_that_is_missing_strange_or_too_many_is_damage(
    entry: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    kind, fields = entry
    whole = cbor2.loads(encode_entry(kind, **fields))
    key = data.draw(st.sampled_from(sorted(whole)))
    wrong = [{k: v for k, v in whole.items() if k != key}, {**whole, "more": 1}, {**whole, 5: 1}]
    for value in wrong:
        with pytest.raises(DamagedError):
            decode_entry(0, cbor2.dumps(value, canonical=True))


@pytest.mark.parametrize("key", ["v", "kind", "at", "boot", "origin", "old", "proof", "note"])
@given(value=ODD)
def test_a_field_of_another_form_is_damage(key: str, value: Any) -> None:
    whole = cbor2.loads(encode_entry("checkpoint", origin="o", old=1, proof=[b"p" * 32], note=b"note"))
    if (key, value) in (("proof", []), ("note", b""), ("note", b"x")):
        return
    with pytest.raises(DamagedError):
        decode_entry(0, cbor2.dumps({**whole, key: value}, canonical=True))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_entry_or_damage(data: bytes) -> None:
    with pytest.raises(DamagedError):
        decode_entry(0, data)


@given(ENTRIES, st.data())
def test_changed_bytes_are_another_entry_or_damage(entry: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    raw = encode_entry(entry[0], **entry[1])
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    try:
        found = decode_entry(0, changed)
    except DamagedError:
        return
    assert cbor2.dumps(found.map, canonical=True) == changed != raw


@pytest.mark.parametrize("more", [b"\0", b"\xf6"])
def test_nothing_follows_an_entry(more: bytes) -> None:
    with pytest.raises(DamagedError):
        decode_entry(0, encode_entry("silence", origin="o", since=[1, 2, 3], size=0) + more)


def test_another_order_of_the_fields_is_damage() -> None:
    whole = cbor2.loads(encode_entry("silence", origin="o", since=[1, 2, 3], size=0))
    with pytest.raises(DamagedError):
        decode_entry(0, cbor2.dumps(dict(reversed(whole.items()))))


def test_the_largest_entry_fits_into_a_bundle() -> None:
    note = b"n" * MAX_NOTE
    largest = [
        encode_entry("equivocation", origin="o" * 2048, held=note, note=note),
        encode_entry("refused", origin="o" * 2048, old=(1 << 63) - 1, proof=[b"p" * 32] * MAX_PROOF, note=note),
    ]
    assert all(len(entry) <= MAX_ENTRY for entry in largest)
    for entry in largest:
        decode_entry(0, entry)
