from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError
from sandtrail.store.manifest import Entry, decode_entry, encode_entry
from sandtrail.store.schema import check_entry

COMMON = {"run": "0123456789abcdef", "boot": "b", "epoch": 0}
AT = [1, 2, 3]
GOOD: dict[str, dict[str, Any]] = {
    "segment": {
        "segment": 0,
        "key": bytes(16),
        "frames": 1,
        "root": bytes(32),
        "blob": bytes(32),
        "size": 1,
        "raw": 1,
        "first": AT,
        "last": AT,
        "streams": {"0123456789abcdef": [0, 1, 5]},
    },
    "start": {"at": AT, "version": "1", "pid": 1, "first": True},
    "stop": {"at": AT},
    "heartbeat": {"at": AT},
    "gap": {"cause": "c", "from": AT, "to": AT},
    "clock": {"at": AT, "before": AT, "step_ns": -5, "suspended_ns": 0},
    "epoch": {"at": AT, "certificate": "text"},
    "time": {"at": AT, "size": 1, "checkpoint": b"c", "token": b"t", "authority": "a"},
    "hold": {"at": AT, "keys": [bytes(16)], "on": True, "case": "c", "by": "b"},
    "erase": {"at": AT, "keys": [bytes(16)], "reason": "r", "by": "b"},
    "retain": {"at": AT, "segments": [[0, 4]], "before": 1, "reason": "r", "by": "b"},
}


def entry(kind: str, fields: dict[str, Any]) -> Entry:
    return decode_entry(0, encode_entry(kind, {**COMMON, **fields}))


@pytest.mark.parametrize("kind", GOOD)
def test_an_entry_has_the_fields_of_its_kind_and_no_others(kind: str) -> None:
    check_entry(entry(kind, GOOD[kind]))
    for name in GOOD[kind]:
        with pytest.raises(DamagedError, match=name):
            check_entry(entry(kind, {key: value for key, value in GOOD[kind].items() if key != name}))
    with pytest.raises(DamagedError, match="another"):
        check_entry(entry(kind, {**GOOD[kind], "another": 1}))
    for name in GOOD[kind]:
        with pytest.raises(DamagedError, match="malformed"):
            check_entry(entry(kind, {**GOOD[kind], name: None}))


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("segment", "segment", -1),
        ("segment", "segment", True),
        ("segment", "segment", 1 << 64),
        ("segment", "root", bytes(31)),
        ("segment", "first", [1, 2]),
        ("segment", "first", [1, 2, -3]),
        ("segment", "streams", {"X": [0, 1, 1]}),
        ("segment", "streams", {"0123456789abcdef": [0, 1]}),
        ("segment", "streams", {"0123456789abcdeF": [0, 1, 1]}),
        ("segment", "key", bytes(17)),
        ("hold", "keys", []),
        ("retain", "segments", [[4, 0]]),
        ("retain", "segments", [[1]]),
        ("gap", "sha256", bytes(32)),
    ],
)
def test_a_field_of_another_shape_is_damage(kind: str, name: str, value: Any) -> None:
    with pytest.raises(DamagedError):
        check_entry(entry(kind, {**GOOD[kind], name: value}))


def test_format_1_knows_fewer_kinds_and_no_epochs() -> None:
    fields = {"v": 1, "kind": "stop", "run": "r", "boot": "b", "at": AT}
    check_entry(Entry(0, "stop", fields))
    with pytest.raises(DamagedError, match="epoch"):
        check_entry(Entry(0, "stop", {**fields, "epoch": 0}))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_whatever_an_entry_says_it_is_good_or_damaged(kind: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(GOOD[kind])))
    changed = entry(kind, {**GOOD[kind], name: data.draw(values)})
    try:
        check_entry(changed)
    except DamagedError:
        return
    assert type(changed.map[name]) is type(GOOD[kind][name])
