"""The truth of the demonstration against its recording, on every runsc that we support."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.demo import story
from sandtrail.replay.index import Index
from sandtrail.replay.index.catalog import open_catalog
from sandtrail.store.reader import open_log
from tests.demo.plugin import Record, Recording
from tests.parts import Runsc

pytestmark = [pytest.mark.needs("root", "ip", "nft", "git"), pytest.mark.timeout(300)]

Row = dict[str, Any]
# Rows of the agent's own process, which keeps a file about its run, and the connection to its model.
AGENTS_OWN = f"{story.HOME}/.config/mini-swe-agent/"


@pytest.fixture
def demo(each_runsc: Runsc, demo_recordings: Record) -> Recording:
    return demo_recordings(each_runsc)


@pytest.fixture
def index(demo: Recording) -> Iterator[Index]:
    engine = open_catalog(demo.home)
    yield Index(demo.home, engine)
    engine.dispose()


def truth(index: int) -> list[story.Turn]:
    """What happened because of a turn's decision."""
    return [story.TURNS[index], *([story.LEFT_BEHIND] if index == story.LEFT_BEHIND_AT else [])]


def turns(demo: Recording) -> list[tuple[int, Row]]:
    """(Index in the story, turn of the timeline): the timeline begins with a turn for what precedes any decision."""
    told = demo.timeline["turns"]
    assert [turn["kind"] for turn in told] == ["start"] + ["model"] * len(story.TURNS)
    return list(enumerate(told[1:]))


def outputs(turn: Row, *kinds: str) -> list[Row]:
    return [row for row in turn["outputs"] if row["kind"].startswith(kinds)]


def objects(rows: list[Row]) -> set[str]:
    return {row["object"] for row in rows}


def test_the_agent_ends_as_it_should(demo: Recording) -> None:
    assert demo.status == 0
    assert demo.timeline["session"]["exit_status"] == 0
    assert demo.timeline["session"]["state"] == "ended"


def test_every_decision_is_told_word_by_word(demo: Recording) -> None:
    for index, turn in turns(demo):
        assert turn["decision"]["text"] == story.TURNS[index].text
        assert turn["decision"]["commands"] == list(story.TURNS[index].commands)
        assert turn["input"]["model"] == story.MODEL


def test_the_first_input_is_the_task_and_each_later_one_the_results(demo: Recording) -> None:
    roles = [[m["role"] for m in turn["input"]["new_messages"]] for _, turn in turns(demo)]
    assert roles[0] == ["system", "user"]
    assert story.TASK in turns(demo)[0][1]["input"]["new_messages"][1]["text"]
    for index, shown in enumerate(roles[1:]):
        assert [role for role in shown if role == "tool"] == ["tool"] * len(story.TURNS[index].commands)


def test_every_command_is_under_its_turn_and_no_other_is(demo: Recording) -> None:
    for index, turn in turns(demo):
        seen = Counter(tuple(shlex.split(row["object"])) for row in outputs(turn, "process.exec"))
        expected = Counter(argv for part in truth(index) for argv in [*part.shells(), *part.programs])
        assert seen == expected, f"turn {index}"


def test_every_file_that_was_written_is_under_its_turn(demo: Recording) -> None:
    for index, turn in turns(demo):
        seen = objects(outputs(turn, "file."))
        assert {path for part in truth(index) for path in part.writes} <= seen, f"turn {index}"


def test_no_other_file_of_the_project_was_written(demo: Recording) -> None:
    for index, turn in turns(demo):
        written = {path for path in objects(outputs(turn, "file.")) if path.startswith(f"{story.WORKSPACE}/")}
        gits = {path for path in written if path.startswith(f"{story.WORKSPACE}/.git/")}
        assert written - gits == {path for part in truth(index) for path in part.writes} - gits, f"turn {index}"


def test_every_file_that_was_read_was_read_by_a_program_of_its_turn(demo: Recording, index: Index) -> None:
    for place, turn in turns(demo):
        programs = {(row["pid"], row["pid_start_ns"]) for row in outputs(turn, "process.exec")}
        for path in {path for part in truth(place) for path in part.reads}:
            found, _ = index.events(demo.session, kind="file.", q=path)
            readers = {(row["pid"], row["pid_start_ns"]) for row in found if row["object"] == path}
            assert readers & programs, f"turn {place}: {path}"


def test_every_request_is_under_its_turn_and_no_other_is(demo: Recording) -> None:
    for index, turn in turns(demo):
        seen = objects(outputs(turn, "http."))
        assert seen == {request for part in truth(index) for request in part.requests}, f"turn {index}"
        assert objects(outputs(turn, "model.")) == {f"POST https://{story.MODEL_HOST}/v1/chat/completions"}


def test_every_connection_past_the_gateway_is_under_its_turn_and_no_other_is(demo: Recording) -> None:
    for index, turn in turns(demo):
        rows = [row for row in outputs(turn, "net.") if not {"gateway", "local"} & set(row["flags"])]
        assert objects([r for r in rows if r["kind"] != "net.dns"]) == {c for p in truth(index) for c in p.connects}
        assert objects([r for r in rows if r["kind"] == "net.dns"]) == {n for p in truth(index) for n in p.lookups}


def test_the_agents_own_egress_precedes_every_decision(demo: Recording) -> None:
    start = demo.timeline["turns"][0]
    assert [url for url in objects(outputs(start, "http.")) if f"https://{story.PRICES_HOST}/" in url]


def test_nothing_is_left_unexplained_and_nothing_was_lost(demo: Recording) -> None:
    # Of some calls an older runsc says neither path nor process; those are nobody's.
    assert [row for row in demo.timeline["unexplained"] if row["pid"]] == []
    assert demo.timeline["gaps"] == []


def test_the_bad_acts_stand_out_and_nothing_else_does(demo: Recording) -> None:
    found = {(f["verdict"], (f["turn"] or 0) - 1, f["title"]): f for f in demo.timeline["findings"]}
    for act in story.BAD_ACTS:
        told = [
            key
            for key, finding in found.items()
            if key[:2] == (act.verdict, act.turn)
            and all(text in finding["title"] + finding["explanation"] for text in act.shows)
        ]
        assert told, f"not found: {act.what}"
        del found[told[0]]
    assert not found


def test_every_finding_leads_to_its_evidence(demo: Recording, index: Index) -> None:
    for finding in demo.timeline["findings"]:
        rows, _ = index.events(demo.session, refs=finding["refs"])
        assert {row["ref"] for row in rows} == set(finding["refs"]), finding["title"]


def test_the_left_behind_process_is_said_to_act_after_its_turn(demo: Recording) -> None:
    turn = turns(demo)[story.LEFT_BEHIND_AT][1]
    late = {tuple(shlex.split(row["object"])) for row in outputs(turn, "process.exec") if "late" in row["flags"]}
    assert {argv for argv in story.LEFT_BEHIND.programs if argv[0] != "sleep"} <= late


def test_the_record_verifies(demo: Recording) -> None:
    done = demo.sandtrail("verify")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_models_key_is_in_no_frame_of_any_source_and_in_no_event(demo: Recording, index: Index) -> None:
    key = "sk-demo-0000"
    rows, _ = index.events(demo.session, q=key)
    assert rows == []
    streams = {int(row["id"], 16) for row in index.streams(demo.session) if row["source"] == "gateway"}
    log = open_log(demo.home)
    segments = [entry.map["segment"] for entry in log.entries(0, log.size()) if entry.kind == "segment"]
    frames = [frame for segment in segments for frame in log.frames(segment)]
    asked = [frame for frame in frames if frame.stream in streams and b"{{credential:openai-api-key:" in frame.payload]
    assert len(asked) >= len(story.TURNS)
    assert not [frame.ref for frame in frames if key.encode() in frame.payload]
