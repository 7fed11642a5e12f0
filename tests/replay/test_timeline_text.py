from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from sandtrail.replay.escape import csv_cell, visible
from sandtrail.replay.events import COLUMNS
from sandtrail.replay.timeline_text import events_csv, render
from tests.replay.turns.recording import Recording

EVIL = (
    "\x1b[2J\x1b[31mred\r\n── turn 9  fake ──\u202eevil\u2066\x07\x9b31m\u200b\u2028[bold]markup[/bold]\ud800\U000e0041"
)


def story(evil: str = "x") -> dict[str, Any]:
    r = Recording()
    agent = r.begin("python", evil)
    r.ask(agent, f"I read it. {evil}", f"sh build.sh {evil}")
    sh = r.shell(agent, f"sh build.sh {evil}")
    inner = r.spawn(r.spawn(sh, "sh", "build.sh"), "nc", evil)
    r.write(inner, f"/srv/{evil}")
    r.read(inner, f"/srv/read/{evil}")
    r.lookup(inner, f"{evil}.test")
    r.connect(inner, "203.0.113.7", 443)
    r.request(inner, "GET", f"https://x.test/{evil}")
    for operation in ("chat", "execute_tool"):
        told = {"operation": operation, "response_id": "x" if operation == "chat" else evil, "tool": {"name": evil}}
        r.add("claim.span", source="claims", object=f"{operation} {evil}", detail=told)
    r.add("gap", 0, object=evil, detail={"cause": evil, "count": None})
    r._starts[77] = r.now
    r.exec(77, "nowhere", evil)
    found = r.timeline()
    found["session"] = {
        "id": evil, "state": "ended", "exit_status": 1, "started_ns": r.events[0].time_ns, "command": ["python", evil],
        "turns": 2, "events": len(r.events), "completeness": {"from_first_instruction": True, "reason": evil},
    }  # fmt: skip
    return found


def printed(timeline: dict[str, Any], width: int = 100, colour: bool = False) -> str:
    out = io.StringIO()
    render(timeline, Console(file=out, width=width, force_terminal=colour, color_system="standard" if colour else None))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for line in printed(story(), width).splitlines():
        assert cell_len(line) <= width, line


def test_every_act_finding_and_gap_carries_its_evidence() -> None:
    timeline = story()
    text = printed(timeline)
    lines = text.splitlines()
    refs = {row["ref"] for turn in timeline["turns"] for row in turn["outputs"] if "folded" not in row["flags"]}
    for ref in refs | {gap["ref"] for gap in timeline["gaps"]}:
        assert any(line.endswith(f" {ref}") for line in lines), ref
    for finding in timeline["findings"]:
        assert any(finding["verdict"] in line and finding["refs"][0] in line for line in lines)


def test_a_tool_call_that_is_no_command_is_printed_with_where_it_ran() -> None:
    timeline = story()
    decision = next(turn["decision"] for turn in timeline["turns"] if turn["decision"])
    called = {"id": "c", "name": "web_search", "arguments": '{"query": "\x1b[2J"}'}
    decision |= {"commands": [], "tool_calls": [{**called, "server": True}, {**called, "name": "weather"}]}
    text = printed(timeline, 120)
    assert '→ web_search({"query": "\\x1b[2J"})  (at the provider\'s)' in text
    assert '→ weather({"query": "\\x1b[2J"}) ' in text


def test_an_edited_history_two_conversations_and_parallel_results_can_be_told_apart() -> None:
    timeline = story()
    turn = next(turn for turn in timeline["turns"] if turn["input"])
    assert ", thread" not in printed(timeline)
    result = {"role": "tool", "text": "42\n", "characters": 9_000_000, "tool": "add", "is_error": None}
    turn["input"]["new_messages"] = [{**result, "tool_call_id": f"call_{n}"} for n in (1, 2)]
    turn["input"]["new_messages"][0] |= {"text": "\n".join("abcdefg"), "characters": 9_000_000}
    edit = {"role": "tool", "tool": "add", "tool_call_id": "call_0", "was": "4\n1", "now": "\x1b[2J"}
    turn["input"]["changed"] = [edit, {**edit, "now": None}]
    timeline["turns"].append({**turn, "index": 2, "thread": 1})
    text = printed(timeline)
    assert "turn 1  m, thread 0" in text
    assert "turn 2  m, thread 1" in text
    assert "the result of add (call_2):" in text
    assert "… more, 9,000,000 characters in all" in text
    assert "was    tool, add (call_0): “4 1”" in text
    assert "now    tool, add (call_0): “\\x1b[2J”" in text
    assert "gone   tool, add (call_0): “4 1”" in text


def test_of_two_processes_that_ask_a_model_each_turn_says_which_it_was() -> None:
    r = Recording()
    first = r.begin("python", "agents.py")
    second = r.spawn(first, "node", EVIL)
    r.ask(first, "one")
    assert "called by" not in printed(r.timeline() | {"session": {"id": "s"}})
    r.messages = [{"role": "user", "content": "quite another conversation"}]
    r.ask(second, "two")
    text = printed(r.timeline() | {"session": {"id": "s"}}, 120)
    assert "turn 1  m, thread 0, called by python (pid 1) " in text
    assert "turn 2  m, thread 1, called by node (pid 2) " in text


def test_what_was_uploaded_is_named_whole_however_narrow_the_terminal() -> None:
    timeline = story()
    row = next(row for turn in timeline["turns"] for row in turn["outputs"] if row["kind"] == "http.exchange")
    row |= {"flags": ["upload"], "summary": f"answered 200; uploads plan.txt, 1.5 kB, sha256 {'ab' * 8}…; {'x' * 500}"}
    text = printed(timeline, 80)
    assert f"sha256 {'ab' * 8}…" in " ".join(text.split())
    assert all(cell_len(line) <= 80 for line in text.splitlines())


def test_findings_come_first_and_their_lines_are_marked() -> None:
    text = printed(story())
    assert text.index("findings") < text.index("turn 0")
    assert "BYPASS" in next(line for line in text.splitlines() if "tried to reach 203.0.113.7:443, refused" in line)


def test_nothing_of_a_sandbox_reaches_the_terminal_unescaped() -> None:
    text = printed(story(EVIL))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028\u202e\u2066\ud800-\udfff]", text)
    assert "\n── turn 9" not in text
    assert "[bold]markup[/bold]" in text
    assert "\\x1b[2J" in text
    assert "\\u202e" in text


def test_colours_are_ours_alone() -> None:
    codes = re.findall(r"\x1b\[([0-9;]*)m", printed(story(EVIL), colour=True))
    assert codes
    assert "\x1b[2J" not in printed(story(EVIL), colour=True)


@given(st.text(max_size=40))
@settings(max_examples=25, deadline=None)
def test_any_text_keeps_its_line(evil: str) -> None:
    lines = printed(story(evil)).splitlines()
    assert sum(line.startswith("── turn") for line in lines) == 2
    assert all(cell_len(line) <= 100 for line in lines)


@given(st.text())
def test_visible_text_is_one_printable_line(text: str) -> None:
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)
    shown.encode()


def test_marks_that_would_grow_over_other_lines_are_cut_off() -> None:
    assert visible("e\u0301") == "e\u0301"
    assert "\\u0301" in visible("e" + "\u0301" * 50)


@pytest.mark.parametrize(
    "formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "'=1", "|cmd", "＝1", "\n=1"]
)
def test_no_cell_is_a_formula(formula: str) -> None:
    assert csv_cell(formula).startswith("'")


def test_numbers_stay_numbers() -> None:
    assert [csv_cell(value) for value in (-1, 0, None, 2.5, True)] == ["-1", "0", "", "2.5", "True"]


@given(st.lists(st.fixed_dictionaries({"object": st.text(), "result": st.integers() | st.none(), "kind": st.text()})))
def test_csv_is_read_back_cell_by_cell(rows: list[dict[str, Any]]) -> None:
    table = list(csv.reader(io.StringIO("".join(events_csv(rows)), newline="")))
    assert table[0] == list(COLUMNS)
    assert len(table) == len(rows) + 1
    for row, cells in zip(rows, table[1:], strict=True):
        assert cells[COLUMNS.index("object")] == csv_cell(row["object"])
        assert not cells[COLUMNS.index("object")].startswith(("=", "+", "-", "@", "\t", "\r"))
