from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.models import Exchange, decode_exchange
from sandtrail.replay.models.cut_json import load_cut_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, {"b": "some wor', {"a": [1, {"b": "some wor"}]}),
        ('{"a": [1, 23', {"a": [1]}),
        ('{"a": 1, "b', {"a": 1}),
        ('{"a": 1, "b":', {"a": 1}),
        ('{"a": 1, "b": "x\\u00', {"a": 1, "b": "x"}),
        ('{"a": 1, "b": "x\\', {"a": 1, "b": "x"}),
        ('[{"a": "]}\\"', [{"a": ']}"'}]),
        ('[{"a": true}, {', [{"a": True}, {}]),
        ("[", []),
        ("", None),
        ("<html>", None),
        ('{"a" 1', {}),
    ],
)
def test_what_came_before_the_end_is_there(text: str, value: Any) -> None:
    assert load_cut_json(text.encode()) == value


@settings(max_examples=300, deadline=None)
@given(values.filter(lambda value: isinstance(value, dict | list)), st.data())
def test_a_value_cut_anywhere_is_a_part_of_it(value: Any, data: st.DataObject) -> None:
    whole = json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "replace")
    assert load_cut_json(whole) == json.loads(whole)
    found = load_cut_json(whole[: data.draw(st.integers(1, len(whole)))])
    assert is_part(found, json.loads(whole)), found


def is_part(part: Any, whole: Any) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(part[key], whole[key]) for key in part)
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_part, part, whole))
    if isinstance(part, str) and isinstance(whole, str):
        # Half of a pair of surrogates may be all that came of a character.
        return whole.startswith((part, part[:-1]))
    return part == whole or part is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100) | st.text('[]{},:"\\u0a 1', max_size=100).map(str.encode))
def test_any_bytes_can_be_taken(data: bytes) -> None:
    json.dumps(load_cut_json(data))


@pytest.mark.parametrize("piece", [b'{"a":', b'["', b'"\\', b"[1,", b'{"a":"b","', b'\\"', b" "])
def test_it_takes_time_in_proportion(piece: bytes) -> None:
    began = time.process_time()
    load_cut_json(b"[" + piece * 400_000)
    assert time.process_time() - began < 20


def test_of_a_request_that_was_kept_in_part_the_messages_up_to_there_are_shown() -> None:
    messages = [
        {"role": "system", "content": "be good"},
        {"role": "user", "content": "do it"},
        {"role": "user", "content": "x" * 1000},
    ]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    cut = Exchange("f", "1", "POST", "http://m.test/v1/chat/completions", request_body=body[:-500], request_cut=True)
    call = decode_exchange(cut)
    assert call is not None
    assert (call.model, call.input_cut) == ("m", True)
    assert [message.text[:7] for message in call.messages] == ["be good", "do it", "xxxxxxx"]
    assert len(call.messages[2].text) < 1000
    assert not [text for text in call.problems if "request" in text], "that it is cut says it all"
