from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.replay.models.call import Choice, ModelCall, ToolCall
from sandtrail.replay.turns.commands import Command, commands_of, match, part_of, script_of


def call(text: str = "", *tools: tuple[str, object]) -> ModelCall:
    made = [
        ToolCall(f"c{n}", name, arguments if isinstance(arguments, str) else json.dumps(arguments), arguments)
        for n, (name, arguments) in enumerate(tools)
    ]
    return ModelCall("test", choices=[Choice(0, text=text, tool_calls=made)])


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("bash", {"command": "ls -la"}, ["ls -la"]),
        ("shell", {"command": ["bash", "-lc", "ls -la | wc"]}, ["ls -la | wc"]),
        ("shell", {"command": ["git", "log", "-1"]}, ["git log -1"]),
        ("execute", {"cmd": "make"}, ["make"]),
        ("run", {"script": "a\nb"}, ["a\nb"]),
        ("terminal", {"keystrokes": "ls\n"}, ["ls\n"]),
        ("batch", {"commands": ["ls -l", "pwd && id"]}, ["ls -l", "pwd && id"]),
        ("shell", {"commands": ["make", "pwd"], "timeout_ms": None}, ["make", "pwd"]),
        ("local_shell", {"type": "exec", "command": ["git", "status"], "env": {}}, ["git status"]),
        ("batch", {"commands": [{"command": "ls"}, {"command": "id"}]}, ["ls", "id"]),
        ("python", {"code": "print(1)"}, ["print(1)"]),
        ("write_file", {"path": "a.py", "code": "print(1)"}, []),
        ("read_file", {"path": "a.py"}, []),
        ("bash", {"command": 7}, []),
        ("bash", {"command": None}, []),
    ],
)
def test_finds_commands_in_tool_calls(tool: str, arguments: object, expected: list[str]) -> None:
    assert [c.text for c in commands_of(call("", (tool, arguments)))] == expected


def test_takes_the_text_of_a_custom_tool() -> None:
    made = call()
    made.choices[0].tool_calls = [ToolCall("c", "shell", "ls -la; pwd", None)]
    assert [c.text for c in commands_of(made)] == ["ls -la; pwd"]


def test_takes_fenced_blocks_where_there_are_no_tool_calls() -> None:
    text = "I look.\n\n```mswea_bash_command\nls -la\npwd\n```\nand\n```python\nx = 1\n```\n```bash\nid\n```"
    assert [c.text for c in commands_of(call(text))] == ["ls -la\npwd", "id"]
    assert [c.text for c in commands_of(call(text, ("bash", {"command": "make"})))] == ["make"]


def test_a_block_that_was_cut_off_is_still_one() -> None:
    assert [c.text for c in commands_of(call("```bash\nls -la"))] == ["ls -la"]


@pytest.mark.parametrize(
    ("argv", "command", "confidence"),
    [
        (["/bin/sh", "-c", "ls -la"], "ls -la", 1.0),
        (["bash", "-lc", " ls -la\n"], "ls -la", 1.0),
        (["/usr/bin/ls", "-la"], "ls -la", 1.0),
        (["git", "commit", "-m", "a b"], "git commit -m 'a b'", 1.0),
        (["bash", "-c", "cd /x && make test"], "make test", 0.9),
        (["timeout", "30", "make", "test"], "make test", 0.9),
        (["bash", "-c", "ls"], "ls -la", None),
        (["ls"], "ls -la", None),
        (["sh", "-c", "pls"], "ls", None),
        ([], "ls", None),
        (["ls"], "", None),
    ],
)
def test_matches_what_was_run_with_what_was_decided(argv: list[str], command: str, confidence: float | None) -> None:
    found = match(argv, Command(command))
    assert (found.confidence if found else None) == confidence


def test_a_command_longer_than_what_an_event_keeps_is_matched_by_its_beginning() -> None:
    text = "cat > f <<EOF\n" + "x" * 20_000
    found = match(["sh", "-c", text[:8192]], Command(text))
    assert found is not None
    assert found.confidence == 0.97


def test_a_persistent_shell_runs_the_parts_of_a_line() -> None:
    line = Command("cd src && make -j2; ls | wc -l")
    assert part_of(["make", "-j2"], line) is not None
    assert part_of(["wc", "-l"], line) is not None
    assert part_of(["make"], line) is None


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["sh", "-c", "x"], "x"),
        (["/bin/bash", "-lc", "x"], "x"),
        (["bash", "--norc", "-e", "-c", "x"], "x"),
        (["bash", "run.sh", "-c", "x"], None),
        (["bash"], None),
        (["python", "-c", "x"], None),
        (["-bash", "-c", "x"], "x"),
    ],
)
def test_knows_a_shell_that_is_given_a_line(argv: list[str], line: str | None) -> None:
    assert script_of(argv) == line


@given(st.lists(st.text(max_size=20), max_size=6), st.text(max_size=40))
def test_nothing_raises(argv: list[str], text: str) -> None:
    match(argv, Command(text))
    part_of(argv, Command(text))
    script_of(argv)
    commands_of(call(text, ("bash", {"command": argv}), ("run", text)))


@given(st.text(min_size=1).filter(str.strip))
def test_every_command_matches_the_shell_that_runs_it(text: str) -> None:
    found = match(["/bin/sh", "-c", text], Command(text))
    assert found is not None
    assert found.confidence == 1.0
