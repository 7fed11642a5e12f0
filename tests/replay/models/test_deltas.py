from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandtrail.replay.models.deltas import joined, merge
from tests.replay.models.talk import shaped


def put_together(*deltas: dict[str, Any]) -> Any:
    whole: dict[str, Any] = {}
    for delta in deltas:
        merge(whole, delta)
    return joined(whole)


def test_strings_grow_and_what_has_another_type_takes_their_place() -> None:
    assert put_together({"text": "one "}, {"text": "two"}) == {"text": "one two"}
    assert put_together({"text": "one"}, {"text": ["two"]}, {"text": ["three"]}) == {"text": ["two", "three"]}
    assert put_together({"text": ["one"]}, {"text": "two"}, {"text": " three"}) == {"text": "two three"}


@given(st.lists(st.dictionaries(st.sampled_from("abc"), shaped("index", "id", "type"), max_size=3), max_size=5))
def test_any_deltas_can_be_put_together(deltas: list[dict[str, Any]]) -> None:
    assert isinstance(put_together(*deltas), dict)
