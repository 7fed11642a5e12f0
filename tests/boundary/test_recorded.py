"""What a gateway wrote of the openai package's conversations stays readable (tests/fixtures/record_openai.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.boundary.openai_oracle import as_completion, as_response, compare_chat, compare_response
from tests.boundary.openai_stories import STORIES
from tests.boundary.reading import model_calls

HERE = Path(__file__).parents[1] / "fixtures" / "openai"


def test_every_story_is_kept() -> None:
    assert {path.stem for path in HERE.glob("*.jsonl")} == set(STORIES)


@pytest.mark.parametrize("name", sorted(STORIES))
def test_a_recorded_conversation_is_read_as_its_client_read_it(name: str) -> None:
    told, *frames = map(json.loads, (HERE / f"{name}.jsonl").read_text().splitlines())
    calls = model_calls(frames)
    for call, answer in zip(calls, told["answers"], strict=True):
        if name.startswith("chat"):
            compare_chat(call, as_completion(answer))
        else:
            compare_response(call, as_response(answer))
        assert (call.problems, call.cut) == ([], False)
