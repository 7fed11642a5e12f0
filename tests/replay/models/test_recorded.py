"""Recorded conversations of real clients: each is read by its own API's decoder, whoever else is asked first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandtrail.replay.models import decode_exchange, registry
from tests.boundary import openai_stories, vendor_stories
from tests.boundary.scripted import story
from tests.fixtures.record_models import HERE, OPENAI, read

APIS = {name: f"openai.{name.partition('_')[0]}" for name in OPENAI}
APIS |= {name: api for name, (_, api, _) in vendor_stories.STORIES.items()}
SHAPES = {"bedrock.invoke": "anthropic.messages", "bedrock.converse": None}
"""What a call is taken for where the path does not tell, if not for itself."""


def test_there_is_a_recording_of_each() -> None:
    assert {path.stem for path in HERE.glob("*.json")} == set(APIS)


@pytest.mark.parametrize("name", sorted(APIS))
def test_a_recorded_conversation_is_read_whole(name: str) -> None:
    calls = [decode_exchange(exchange) for exchange in read(name)]
    assert [call.api if call else None for call in calls] == [APIS[name]] * 2
    first, second = (call for call in calls if call is not None)
    for call in (first, second):
        assert (call.problems, call.cut, call.input_cut, call.error) == ([], False, False, None)
        assert call.streamed == (name.endswith("streamed") or name in ("anthropic_beta", "gemini_on_vertex"))
    words = ("".join(story.LAST), vendor_stories.RESULT)
    if name in OPENAI:
        words = ("There is a.txt.", openai_stories.RESULT)
    assert (second.text, second.messages[-1].text) == words
    (asked,) = [tool for tool in first.tool_calls if not tool.server]
    assert second.messages[-1].tool_call_id == asked.id
    assert "command" in asked.parsed


@pytest.mark.parametrize("name", sorted(APIS))
def test_no_decoder_takes_another_s_calls_whoever_is_asked_first(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_path, *others = registry.DECODERS  # by the path alone: what Bedrock is sent may be another API's body
    for exchange in read(name):
        for first in others:
            monkeypatch.setattr(registry, "DECODERS", (by_path, first, *others))
            call = decode_exchange(exchange)
            assert call is not None
            assert call.api == APIS[name]
            elsewhere = decode_exchange(replace(exchange, url="http://gateway.test/odd"))
            wanted = SHAPES.get(APIS[name], APIS[name])
            if exchange.response_headers != [("content-type", "application/vnd.amazon.eventstream")]:
                assert (elsewhere.api if elsewhere else None) == wanted
