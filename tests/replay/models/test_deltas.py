from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandtrail.replay.models.deltas import MAX_DEPTH, MAX_ENTRIES, Deltas
from tests.replay.models.talk import shaped


def put_together(*deltas: dict[str, Any]) -> Any:
    whole = Deltas()
    for delta in deltas:
        whole.add(delta)
    return whole.whole()


def test_strings_grow_and_what_has_another_type_takes_their_place() -> None:
    assert put_together({"text": "one "}, {"text": "two"}) == {"text": "one two"}
    assert put_together({"text": "one"}, {"text": ["two"]}, {"text": ["three"]}) == {"text": ["two", "three"]}
    assert put_together({"text": ["one"]}, {"text": "two"}, {"text": " three"}) == {"text": "two three"}


def test_a_name_that_comes_again_is_no_more_of_it_and_one_in_pieces_grows() -> None:
    assert put_together({"id": "c1", "name": "ba"}, {"id": "c1", "name": "sh"}) == {"id": "c1", "name": "bash"}


def test_entries_meet_by_their_index_wherever_they_stand() -> None:
    second = {"calls": [{"index": 7, "a": "x"}, {"a": "no index"}, {"index": 3, "a": "y"}]}
    found = put_together(second, {"calls": [{"index": 3, "a": "z"}, {"index": 7, "a": "w"}]})
    assert found == {"calls": [{"index": 7, "a": "xw"}, {"a": "no index"}, {"index": 3, "a": "yz"}]}


def test_numbers_that_no_sum_can_hold_do_not_stop_it() -> None:
    assert put_together({"n": 10**400}, {"n": 1.5}) == {"n": 1.5}


def test_what_finds_no_room_is_counted() -> None:
    whole = Deltas()
    whole.add({"calls": [{"index": n} for n in range(MAX_ENTRIES + 5)]})
    whole.add({f"k{n}": 1 for n in range(MAX_ENTRIES)})
    deep: dict[str, Any] = {"text": "x"}
    for _ in range(MAX_DEPTH + 1):
        deep = {"in": deep}
    whole.add({"k0": deep})
    before = whole.left_out
    whole.add({"k0": deep})
    assert (before, whole.left_out) == (5 + 1, 7)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), shaped("index", "id", "type"), max_size=3), max_size=5))
def test_any_deltas_can_be_put_together(deltas: list[dict[str, Any]]) -> None:
    assert isinstance(put_together(*deltas), dict)
