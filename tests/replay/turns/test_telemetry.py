"""The agent's own words stand beside the turns that they name, marked as such, and never among what was seen."""

from __future__ import annotations

from typing import Any

import pytest

from sandtrail.replay.turns.telemetry import MAX_CLAIMS
from tests.replay.turns.recording import MS, Recording

FIRST_CALL = "call_2_0"


@pytest.fixture
def recording() -> Recording:
    """Two model calls a second apart: one asks for a command, one ends. The answers' id is x, both times."""
    made = Recording()
    agent = made.begin("agent")
    made.ask(agent, "I list it.", "ls /tmp")
    made.wait(1)
    made.run(agent, "ls", "/tmp")
    made.ask(agent, "I am done.")
    made.wait(5)
    return made


def claim(recording: Recording, **told: Any) -> str:
    """A claim as it is decoded, received now."""
    told = {"operation": "chat", **told}
    kind = told.pop("kind", "claim.span")
    return recording.add(kind, source="claims", object=f"{told['operation']} m", detail=told)


def times(recording: Recording, turn: int) -> dict[str, int]:
    """What a true claim of a turn's call says of its time."""
    found = recording.fold().turns[turn]
    assert found.exchange is not None
    return {"start_ns": found.request_ns - MS, "end_ns": found.exchange.end_ns + MS}


def beside(recording: Recording) -> dict[int | None, list[str]]:
    """The refs of the claims by turn; None: of no turn."""
    timeline = recording.timeline()
    found: dict[int | None, list[str]] = {
        turn["index"]: [c["ref"] for c in turn["claims"]] for turn in timeline["turns"] if turn["claims"]
    }
    unplaced = [c["ref"] for c in timeline["claims"]["unplaced"]]
    return found | ({None: unplaced} if unplaced else {})


def test_a_claim_that_names_an_answer_stands_beside_its_turn(recording: Recording) -> None:
    first = claim(recording, response_id="x", **times(recording, 1))
    second = claim(recording, response_id="x", **times(recording, 2))
    assert beside(recording) == {1: [first], 2: [second]}
    (shown,) = recording.timeline()["turns"][1]["claims"]
    assert shown["edge"] == {"reason": "it names this answer's response id", "confidence": 0.95}
    assert shown["told"]["response_id"] == "x"


def test_a_claimed_tool_call_stands_beside_the_decision_that_asked_for_it(recording: Recording) -> None:
    ran = claim(recording, operation="execute_tool", tool={"name": "bash", "id": FIRST_CALL, "result": "all fine"})
    said = claim(
        recording, kind="claim.log", output=[{"role": "assistant", "text": "", "tool_calls": [{"id": FIRST_CALL}]}]
    )
    assert beside(recording) == {1: [ran, said]}


def test_one_that_names_no_id_stands_beside_a_turn_by_its_time_with_less_confidence(recording: Recording) -> None:
    chat = claim(recording, **times(recording, 2))
    tool = claim(
        recording, operation="execute_tool", tool={"name": "bash"}, start_ns=times(recording, 1)["end_ns"] + 10 * MS
    )
    assert beside(recording) == {1: [tool], 2: [chat]}
    assert recording.timeline()["turns"][2]["claims"][0]["edge"]["confidence"] == 0.5


def test_a_response_id_that_no_answer_has_is_said_to_be_so(recording: Recording) -> None:
    claim(recording, response_id="never", **times(recording, 2))
    (shown,) = recording.timeline()["turns"][2]["claims"]
    assert shown["edge"]["confidence"] == 0.3
    assert "no recorded answer has the response id" in shown["edge"]["reason"]


def test_events_stand_where_their_span_stands(recording: Recording) -> None:
    spans = {"trace": "t" * 32, "span": "a" * 16}
    told = claim(recording, kind="claim.log", input=[{"role": "user", "text": "hello"}], **spans)
    span = claim(recording, response_id="x", **spans, **times(recording, 1))
    assert sorted(beside(recording)[1]) == sorted([told, span])


def test_a_tool_call_that_no_decision_asked_for_says_so(recording: Recording) -> None:
    claim(recording, operation="execute_tool", tool={"name": "bash", "id": "call_never"}, start_ns=recording.now)
    (shown,) = recording.timeline()["claims"]["unplaced"]
    assert shown["edge"] is None
    assert shown["note"] == "no recorded decision of the model asked for this tool call"


def test_what_spans_turns_stands_beside_none(recording: Recording) -> None:
    whole = claim(recording, operation="invoke_agent", **times(recording, 1))
    assert beside(recording) == {None: [whole]}


def test_a_claim_changes_nothing_of_what_was_seen(recording: Recording) -> None:
    def seen(timeline: dict[str, Any]) -> list[Any]:
        return [
            {key: turn[key] for key in ("input", "decision", "outputs", "outputs_total", "counts")}
            for turn in timeline["turns"]
        ] + [timeline["unexplained"], timeline["gaps"], *(f for f in timeline["findings"] if not set(f["refs"]) & told)]

    told: set[str] = set()
    before = seen(recording.timeline())
    output = [{"role": "assistant", "text": "I deleted everything. All tests pass."}]
    told.add(claim(recording, response_id="x", output=output))
    tool = {"name": "bash", "id": "call_never", "arguments": "rm -rf /"}
    told.add(claim(recording, operation="execute_tool", tool=tool))
    assert seen(recording.timeline()) == before


def test_other_telemetry_and_claims_beyond_the_cap_are_counted(recording: Recording) -> None:
    recording.add("claim.span", source="claims", object="GET /", detail={"name": "GET /"})
    recording.add("claim.metric", source="claims", object="tokens", detail={})
    for _ in range(MAX_CLAIMS + 5):
        claim(recording)
    told = recording.timeline()["claims"]
    assert (told["total"], told["others"], told["left_out"]) == (MAX_CLAIMS + 5, 2, 5)


@pytest.mark.parametrize(
    "told",
    [
        {"tool": "bash", "output": "done", "start_ns": "now"},
        {"tool": {"id": ["x"]}, "output": [{"tool_calls": "all"}, 7, {"tool_calls": [7]}]},
        {"response_id": {"a": 1}, "trace": 5, "start_ns": -1, "end_ns": 1 << 70},
    ],
)
def test_a_claim_of_any_shape_is_shown(recording: Recording, told: dict[str, Any]) -> None:
    ref = claim(recording, **told)
    assert [ref] in beside(recording).values()
