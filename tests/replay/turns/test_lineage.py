"""Which turn an act belongs to, and how sure that is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.replay.turns.recording import Recording


def where(r: Recording, text: str) -> list[tuple[int | None, float | None]]:
    """(turn, confidence) of the rows about something."""
    timeline = r.timeline()
    rows: list[tuple[int | None, dict[str, Any]]] = [
        (t["index"], row) for t in timeline["turns"] for row in t["outputs"]
    ]
    rows += [(None, row) for row in timeline["unexplained"]]
    return [(turn, row["edge"]["confidence"] if row["edge"] else None) for turn, row in rows if text in row["object"]]


@pytest.fixture
def r() -> Recording:
    return Recording()


def test_a_decided_command_is_certain_and_so_is_what_descends_from_it(r: Recording) -> None:
    agent = r.begin("agent")
    r.ask(agent, "", "make")
    shell = r.shell(agent, "make")
    r.write(r.spawn(r.spawn(shell, "make"), "cc", "x.c"), "/workspace/x.o")
    assert where(r, "x.o") == [(1, 1.0)]
    assert where(r, "cc x.c") == [(1, 1.0)]


def test_a_process_left_behind_belongs_to_the_turn_that_began_it(r: Recording) -> None:
    agent = r.begin("agent")
    r.ask(agent, "", "server &")
    server = r.spawn(r.shell(agent, "server &"), "server")
    r.ask(agent, "", "ls")
    r.ask(agent, "", "pwd")
    r.write(server, "/srv/log")
    assert where(r, "/srv/log") == [(1, 1.0)]


def test_what_the_agent_does_itself_falls_into_the_window_after_its_decision(r: Recording) -> None:
    agent = r.begin("agent")
    r.write(agent, "/before")
    r.ask(agent, "I write a file.")
    r.write(agent, "/after")
    r.ask(agent, "And another.")
    r.write(agent, "/later")
    assert where(r, "/before") == [(0, 1.0)]
    assert where(r, "/after") == [(1, 0.5)]
    assert where(r, "/later") == [(2, 0.5)]


def test_a_persistent_shell_runs_the_commands_of_each_turn(r: Recording) -> None:
    agent = r.begin("agent")
    shell = r.spawn(agent, "/bin/bash", "--norc", "-i")
    r.ask(agent, "", "make one && ls -la")
    r.run(shell, "make", "one")
    r.ask(agent, "", "A=1 make two > out 2>&1")
    r.write(shell, "/workspace/out")
    r.run(shell, "make", "two")
    assert where(r, "make one") == [(1, 0.8)]
    assert where(r, "/workspace/out") == [(2, 0.4)]
    assert where(r, "make two") == [(2, 0.8)]


def test_a_sub_agent_acts_for_its_own_decisions(r: Recording) -> None:
    main = r.begin("agent")
    r.ask(main, "", "subagent --task x")
    sub = r.spawn(r.shell(main, "subagent --task x"), "subagent", "--task", "x")
    r.write(sub, "/sub/start")
    mine, r.messages = r.messages, [{"role": "system", "content": "sub"}, {"role": "user", "content": "x"}]
    r.ask(sub, "", "ls /sub")
    r.run(sub, "/bin/sh", "-c", "ls /sub")
    r.write(sub, "/sub/own")
    theirs, r.messages = r.messages, mine
    r.exit(sub)
    r.ask(main, "", "git status")
    r.run(main, "/bin/sh", "-c", "git status")
    assert where(r, "/sub/start") == [(1, 1.0)]
    assert where(r, "ls /sub") == [(2, 1.0)]
    assert where(r, "/sub/own") == [(2, 0.5)]
    assert where(r, "git status") == [(3, 1.0)]
    assert [turn["thread"] for turn in r.timeline()["turns"]] == [0, 0, 1, 0]
    assert theirs


def test_two_agents_at_once_keep_their_commands_apart(r: Recording) -> None:
    root = r.begin("orchestra")
    one, two = r.spawn(root, "agent", "1"), r.spawn(root, "agent", "2")
    conversations: dict[int, list[dict[str, Any]]] = {
        one: [{"role": "user", "content": "task one"}],
        two: [{"role": "user", "content": "task two"}],
    }
    for agent in (one, two, one, two):
        r.messages = conversations[agent]
        r.ask(agent, "", "make all")
    for agent in (two, one):
        r.write(r.shell(agent, "make all"), f"/out/{agent}")
    assert where(r, f"/out/{one}") == [(3, 1.0)]
    assert where(r, f"/out/{two}") == [(4, 1.0)]


def test_the_same_command_twice_in_a_decision_is_run_twice(r: Recording) -> None:
    agent = r.begin("agent")
    r.ask(agent, "", "date", "date")
    for _ in range(2):
        r.exit(r.shell(agent, "date"))
    fold = r.fold()
    assert [root.origin.command for root in fold.turns[1].roots] == [0, 1]


def test_the_latest_of_equal_decisions_is_meant(r: Recording) -> None:
    agent = r.begin("agent")
    for _ in range(3):
        r.ask(agent, "", "git status")
        r.exit(r.shell(agent, "git status"))
    assert where(r, "git status") == [(1, 1.0), (2, 1.0), (3, 1.0)]


def test_what_nothing_explains_is_said_to_be_unexplained(r: Recording) -> None:
    agent = r.begin("agent")
    r.ask(agent, "", "ls")
    r._starts[55] = r.now
    r.exec(55, "intruder")
    r.write(55, "/srv/x")
    assert where(r, "intruder") == [(None, None)]
    assert where(r, "/srv/x") == [(None, None)]


def test_a_command_is_known_even_where_nothing_shows_who_received_it(r: Recording) -> None:
    r.begin("agent")
    other = r.spawn(1, "proxy")
    r.ask(other, "", "make all --jobs 4")
    r.shell(1, "make all --jobs 4")
    assert where(r, "make all --jobs 4") == [(1, 1.0)]


def test_a_pid_that_comes_again_is_another_process(r: Recording) -> None:
    agent = r.begin("agent")
    r.ask(agent, "", "make")
    first = r.shell(agent, "make")
    r.exit(first)
    r.ask(agent, "", "ls")
    r._pid = first - 1
    again = r.shell(agent, "ls")
    assert again == first
    r.write(again, "/workspace/y")
    assert where(r, "/workspace/y") == [(2, 1.0)]


def test_what_ran_before_an_attached_recording_began_is_said_so(r: Recording) -> None:
    r._starts[40] = r.now - 10**12
    r.write(40, "/srv/y")
    (found,) = r.timeline()["turns"][0]["outputs"]
    assert found["edge"] == {"reason": "it ran before the recording began", "confidence": 0.5}


def test_an_older_runtime_that_names_only_a_parents_pid_is_enough(r: Recording) -> None:
    agent = r.begin("agent")
    r.ask(agent, "", "make")
    shell = r.shell(agent, "make")
    r._starts[60] = r.now
    r.add("file.create", 60, object="/workspace/z", ppid=shell, result=3, detail={"write": True})
    assert where(r, "/workspace/z") == [(1, 1.0)]
