from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from sandtrail.ui.choose import (
    LINES_A_PAGE,
    LINES_A_TURN,
    Filter,
    gaps_by_turn,
    page_of,
    pages,
    same_act,
    shorten,
    turn_of,
)
from sandtrail.ui.shapes import Output, Timeline, Turn
from tests.ui import stories


def told(counts: list[int]) -> list[Turn]:
    made: list[Any] = [
        stories.turn(n, [], [stories.output(k, "file.open", "/x", n) for k in range(count)], n)
        for n, count in enumerate(counts)
    ]
    return cast(list[Turn], made)


def incident() -> Timeline:
    return cast(Timeline, stories.incident())


@given(st.lists(st.integers(0, 200), max_size=80))
def test_pages_hold_every_turn_once_and_are_bounded(counts: list[int]) -> None:
    turns = told(counts)
    cut = pages(turns)
    assert [turn["index"] for page in cut for turn in page] == [turn["index"] for turn in turns]
    assert all(sum(min(len(t["outputs"]), LINES_A_TURN) for t in page) <= LINES_A_PAGE for page in cut)
    for number, page in enumerate(cut):
        assert all(page_of(cut, turn["index"]) == number for turn in page)


def test_a_search_keeps_the_lines_that_say_it_and_the_turns_in_which_it_was_said() -> None:
    kept = Filter(q="calc.py").narrow(incident()["turns"])
    assert [turn["index"] for turn in kept] == [2]
    assert all("calc.py" in output["object"] for output in kept[0]["outputs"])
    spoken = Filter(q="14 tests passed").narrow(incident()["turns"])
    assert [turn["index"] for turn in spoken] == [4]


def test_kinds_narrow_to_their_own_lines() -> None:
    kept = Filter(kinds=frozenset({"network"})).narrow(incident()["turns"])
    assert [o["kind"] for turn in kept for o in turn["outputs"]] == ["http.exchange", "net.connect"]


def test_only_flagged_shows_what_findings_rest_on_also_when_it_was_said() -> None:
    judged = frozenset(ref for finding in incident()["findings"] for ref in finding["refs"])
    kept = Filter(flagged=True, judged=judged).narrow(incident()["turns"])
    assert [(turn["index"], [o["ref"] for o in turn["outputs"]]) for turn in kept] == [(3, ["12.34", "12.35"]), (4, [])]


def test_a_quiet_flag_accuses_nobody() -> None:
    local = cast(Output, stories.output(1, "net.connect", "127.0.0.1:80", 1, flags=["local"]))
    assert not Filter().marked(local)
    assert Filter().marked(cast(Output, {**local, "flags": ["credential"]}))


def test_a_long_turn_shows_its_first_lines_and_each_marked_one_and_counts_the_rest() -> None:
    lines = [cast(Output, stories.output(n, "file.open", "/x", n)) for n in range(500)]
    lines[300]["flags"] = ["credential"]
    shown = shorten(lines, Filter())
    assert shown == [*lines[:LINES_A_TURN], 300 - LINES_A_TURN, lines[300], 199]


def test_a_frame_is_found_in_its_turn_also_inside_of_a_folded_group() -> None:
    timeline = incident()
    assert [turn_of(timeline, ref) for ref in ("12.35", "12.9", "11.502", "99.1")] == [3, 1, 2, None]


def test_a_gap_stands_in_the_turn_in_whose_time_it_begins() -> None:
    timeline = incident()
    early = {**timeline["gaps"][0], "ref": "0.0", "from_ns": 1}
    unknown = {**timeline["gaps"][0], "ref": "0.1", "from_ns": None}
    timeline["gaps"] += cast(Any, [early, unknown])
    held = gaps_by_turn(timeline)
    assert {turn: [gap["ref"] for gap in gaps] for turn, gaps in held.items()} == {3: ["13.7"], 0: ["0.0"]}


def test_one_conversation_can_be_read_alone() -> None:
    turns = cast(
        list[Turn],
        [{**stories.turn(n, [], [], n), "thread": n % 2, "kind": "model" if n else "start"} for n in range(6)],
    )
    assert [turn["index"] for turn in Filter(thread="0").narrow(turns)] == [2, 4]
    assert [turn["index"] for turn in Filter(thread="1").narrow(turns)] == [1, 3, 5]
    assert Filter(thread="nobody").narrow(turns) == []


def test_from_one_frame_of_an_act_the_others_are_found() -> None:
    timeline = incident()
    row = stories.output(700, "http.exchange", "GET http://x.test/", 3, refs=["12.700", "12.705", "14.1"])
    timeline["turns"][2]["outputs"].append(cast(Output, row))
    assert same_act(timeline, "12.705") == ["12.700", "12.705", "14.1"]
    assert same_act(timeline, "99.9") == []
