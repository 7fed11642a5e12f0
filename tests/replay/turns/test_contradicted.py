"""An agent's telemetry held against the record: lies, inventions and silence are told, truncation is not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.replay.models.call import ToolCall
from sandtrail.replay.turns.contradicted import _canonical, _same
from sandtrail.replay.turns.mcp_told import differs
from tests.replay.turns.recording import Recording

ANSWER = "I list what is in the folder of temporary files."
RESULT = "exit code: 0\nalpha.txt\nbeta.txt\ngamma.txt"
DONE = "All that had to be done is done now."


def recording(*claims: dict[str, Any]) -> Recording:
    """Two commands and their results, and what the agent claims of them afterwards."""
    r = Recording()
    agent = r.begin("agent")
    r.ask(agent, ANSWER, "ls /tmp", "rm -rf /tmp/x")
    r.ask(agent, DONE, results=[RESULT, "exit code: 0\nremoved it all without a question"])
    for told in claims:
        r.add("claim.span", source="claims", object=f"{told.get('operation')} it", detail=told)
    return r


def ran(ident: str = "call_2_0", name: str = "bash", **more: Any) -> dict[str, Any]:
    return {"operation": "execute_tool", "tool": {"id": ident, "name": name, **more}}


def found(*claims: dict[str, Any], complete: bool = True) -> list[tuple[str, str, int | None]]:
    timeline = recording(*claims).timeline(complete)
    return [(f["verdict"], f["severity"], f["turn"]) for f in timeline["findings"] if f["verdict"] != "UNREPORTED"]


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (ran(arguments='{"command": "cat /etc/hostname"}'), "ARG_MISMATCH"),
        (ran(arguments={"command": "cat /etc/hostname"}), "ARG_MISMATCH"),
        (ran(result="there is nothing in it, nothing at all"), "RESULT_MISMATCH"),
        (
            {**ran(), "operation": "chat", "output": [{"text": "I would never look there, of course."}]},
            "RESULT_MISMATCH",
        ),
    ],
)
def test_what_is_claimed_otherwise_than_it_was_seen_is_a_finding(claim: dict[str, Any], verdict: str) -> None:
    assert found(claim) == [(verdict, "medium", 1)]
    (shown,) = recording(claim).timeline()["turns"][1]["claims"]
    assert shown["note"]


@pytest.mark.parametrize(
    "claim",
    [
        ran(),
        ran(arguments='{"command":"ls /tmp"}'),
        ran(arguments={"command": "ls /tmp"}, result=RESULT),
        ran(arguments='{"command": "ls /t', result=RESULT[:30]),
        ran(result=json.dumps({"output": RESULT})),
        ran(arguments='{"command": "{{credential:token:12345678}}"}'),
        {**ran(), "operation": "chat", "output": [{"text": ANSWER[:30]}]},
        {"operation": "chat", "output": [{"text": "of no call that one could name"}]},
    ],
)
def test_what_is_true_or_only_shorter_is_none(claim: dict[str, Any]) -> None:
    assert found(claim) == []


LINES = [f"line{n} tells what was found in house number {n}" for n in range(200)]


def test_a_long_text_of_which_the_middle_was_left_out_is_no_other_text() -> None:
    whole, short = "\n".join(LINES), "\n".join([*LINES[:20], "(160 lines left out)", *LINES[-20:]])
    assert differs(whole, short) is None
    assert differs(short, whole) is None
    assert differs(whole, short.replace("tells what was found in house", "knows where gold lies under")) is not None


def test_more_words_around_a_short_answer_are_no_other_answer() -> None:
    claim = {**ran(), "operation": "chat", "output": [{"text": "I think of it for a long time, and then I say: Yes."}]}
    for answer, verdicts in (("Yes.", []), ("No, that is none of my tasks here.", ["RESULT_MISMATCH"])):
        r = Recording()
        r.ask(r.begin("agent"), answer, "ls /tmp")
        r.add("claim.span", source="claims", object="chat it", detail=claim | {"tool": {"id": "call_2_0"}})
        assert [f["verdict"] for f in r.timeline()["findings"]] == verdicts


def test_a_tool_that_nobody_asked_for_is_a_finding_once_however_often_it_is_claimed() -> None:
    claims = [ran("call_9", "run_tests", result="312 passed"), ran("call_8", "run_tests")]
    assert found(*claims) == [("PHANTOM", "medium", None)]
    assert found(*claims, complete=False) == [("UNOBSERVABLE", "low", None)]
    assert found(ran("other", "agent.bash")) == [], "one tool under two names is no invention"


def test_a_call_that_is_left_out_is_named_where_others_are_told_of() -> None:
    (finding,) = recording(ran()).timeline()["findings"]
    assert (finding["verdict"], finding["severity"], finding["turn"]) == ("UNREPORTED", "low", 1)
    assert "1 of 2 tool calls that got a result" in finding["title"]
    assert "`bash` (call_2_1) of turn 1" in finding["explanation"]
    assert recording(ran(), ran("call_2_1")).timeline()["findings"] == []
    assert recording({"operation": "chat"}).timeline()["findings"] == [], "who names no call leaves none out"


def test_of_telemetry_that_is_missing_in_the_record_nobody_is_accused() -> None:
    r = recording(ran())
    r.add("gap", source="claims", object="more than the limit", detail={"cause": "more than the limit", "count": 3})
    (finding,) = r.timeline()["findings"]
    assert (finding["verdict"], finding["severity"]) == ("UNOBSERVABLE", "low")
    assert "Telemetry is missing in the record (more than the limit)" in finding["explanation"]


LONG = json.dumps({"path": "notes.md", "content": 'a "quoted" wörd\n' * 2000})


@pytest.mark.parametrize("kept", [len(LONG), 20_000, *range(3000, 3030)])
def test_long_arguments_that_an_exporter_or_the_record_cut_are_the_same(kept: int) -> None:
    assert _same(_canonical(LONG[:kept]), ToolCall("c", "write", LONG))
    assert not _same(_canonical(LONG[:kept].replace("notes", "other")), ToolCall("c", "write", LONG))


def test_an_answer_that_did_not_arrive_whole_may_have_asked_for_any_tool() -> None:
    r = recording(ran("call_9", "run_tests"))
    assert [f["verdict"] for f in r.timeline()["findings"]] == ["PHANTOM"]
    r.request(2, "POST", "https://api.test/v1/chat/completions", {"model": "m", "messages": []})
    (finding,) = r.timeline()["findings"]
    assert finding["verdict"] == "UNOBSERVABLE"
    assert "did not arrive whole" in finding["explanation"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(values, values, values, st.sampled_from(["execute_tool", "chat", ""]))
def test_a_claim_of_any_shape_is_taken(arguments: Any, result: Any, output: Any, operation: str) -> None:
    claim = {**ran(arguments=arguments, result=result), "operation": operation, "output": output}
    recording(claim, {**claim, "tool": result}).timeline()
