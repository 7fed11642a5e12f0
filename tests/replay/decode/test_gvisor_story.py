"""What the decoder makes of the trace that three versions of gVisor sent of one small story (record_gvisor.py)."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from sandtrail.replay.events import Event
from tests.replay.decode.recorded import VERSIONS, decode, gvisor

TELLS_WHO = pytest.mark.parametrize("version", ["20260905"])
"""Older versions leave the context out of raw messages."""


def detail(event: Event) -> dict[str, Any]:
    found = json.loads(event.detail)
    assert isinstance(found, dict)
    return found


def argv(event: Event) -> list[str]:
    return [str(word) for word in detail(event).get("argv", [])]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def story(version: str) -> list[Event]:
    return decode(gvisor(version))


def of(story: list[Event], kind: str) -> list[Event]:
    return [event for event in story if event.kind == kind]


def test_nothing_is_unknown_and_all_of_it_is_one_container(story: list[Event]) -> None:
    assert not of(story, "unknown")
    assert {event.container for event in story if event.pid} == {"fixture"}


def test_it_begins_with_the_container(story: list[Event]) -> None:
    start, program = story[:2]
    assert (start.kind, start.object, detail(start)["message"]) == ("lifecycle.container_start", "fixture", 1)
    assert (program.kind, program.ref, program.n, program.exe) == ("process.exec", start.ref, 1, "sh")
    assert argv(program)[:2] == ["sh", "-c"]


def test_each_exec_is_told_once_with_image_and_argv(story: list[Event], version: str) -> None:
    found = Counter(event.object for event in of(story, "process.exec") if event.result == 0 and event.object != "sh")
    assert found["/usr/bin/cat"] == 5
    assert found["/usr/bin/mv"] == found["/usr/bin/rm"] == found["/usr/bin/perl"] == 1
    moved = next(event for event in of(story, "process.exec") if event.object == "/usr/bin/mv")
    assert argv(moved) == ["mv", "a.txt", "c.txt"]
    assert (moved.process, moved.exe, moved.cwd, moved.ppid) == ("mv", "/usr/bin/mv", "/home", 1)
    assert len(detail(moved).get("sha256", "")) == (64 if version == "20260905" else 0)
    assert detail(moved)["envc"] == 5


def test_the_environment_is_nowhere(story: list[Event]) -> None:
    assert not any("LC_ALL" in event.detail for event in story if "set +e" not in event.detail)


def test_execs_that_failed_are_told_as_such(story: list[Event], version: str) -> None:
    failed = {event.object: event for event in of(story, "process.exec") if event.result == -1}
    assert set(failed) == {"/no/such/program", "/etc/passwd"}
    assert argv(failed["/no/such/program"]) == ["/no/such/program", "one", "two"]
    # The version of 2026 answers the call before it looks for the image.
    expected = (None, None) if version == "20260905" else (2, 13)
    assert (failed["/no/such/program"].errno, failed["/etc/passwd"].errno) == expected
    assert failed["/etc/passwd"].exe == "sh"


def test_paths_are_absolute(story: list[Event]) -> None:
    opens = [e for e in story if e.kind in ("file.open", "file.create") and e.cwd]
    assert {e.object for e in opens if detail(e).get("pathname") == "a.txt"} == {"/home/a.txt"}
    assert all(event.object.startswith("/") for event in opens)
    created = next(event for event in of(story, "file.create") if event.object == "/home/a.txt")
    assert detail(created) == {"fd": 3, "flags": 0o1101, "write": True, "mode": 0o666, "pathname": "a.txt"}
    absent = next(event for event in of(story, "file.open") if event.object == "/no/such/file")
    assert (absent.result, absent.errno, absent.exe) == (-1, 2, "/usr/bin/cat")


def test_writes_say_how_much_and_where(story: list[Event]) -> None:
    write = next(event for event in of(story, "file.write") if event.object == "/home/a.txt")
    assert (write.result, detail(write)) == (6, {"fd": 1, "bytes": 6, "asked": 6})


def test_the_folder_follows_the_process(story: list[Event]) -> None:
    shell = [event.object for event in of(story, "dir.change") if event.pid == 1]
    assert shell[0] == "/home"
    assert shell[-1] == "/"
    assert any(event.object == "/tmp" and event.pid != 1 for event in of(story, "dir.change"))


def test_processes_have_parents_and_ends(story: list[Event]) -> None:
    born = {detail(event)["child_pid"]: event.pid for event in of(story, "process.clone")}
    ended = {event.pid: event for event in of(story, "process.exit")}
    assert len(born) == 34
    assert set(ended) == set(born) | {1}
    assert len(of(story, "process.exit")) == 35
    assert all(event.ppid == born.get(event.pid, 0) for event in of(story, "process.exit"))
    assert (ended[1].result, detail(ended[1])["via"]) == (5, "task_exit")
    assert sorted(event.result or 0 for event in ended.values() if event.result) == [-15, -9, 1, 3, 5, 7, 126, 127]


def test_sockets(story: list[Event]) -> None:
    stream, dgram, listening = of(story, "net.socket")
    assert (stream.object, dgram.object) == ("inet/stream/0", "inet/dgram/0")
    refused, resolver = of(story, "net.connect")
    assert (refused.object, refused.result, refused.errno) == ("192.0.2.7:443", -1, 111)
    assert (resolver.object, resolver.result) == ("10.9.0.1:53", 0)
    assert of(story, "net.bind")[0].object == "0.0.0.0:8080"
    assert len(of(story, "net.listen")) == 1
    assert [detail(event)["bytes"] for event in of(story, "net.send")] == [30, 30]
    assert listening.result == detail(listening)["fd"]


def test_identity(story: list[Event]) -> None:
    changes = of(story, "identity.setid")
    assert len(changes) == 4
    assert {event.object for event in changes} >= {"-1,1000,-1"}
    written = next(event for event in story if event.object == "/tmp/as-user" and event.kind == "file.create")
    assert (written.uid, written.gid) == (1000, 1000)


def test_calls_without_a_schema_are_told_by_their_registers(story: list[Event]) -> None:
    kinds = Counter(event.kind for event in story)
    assert (kinds["file.rename"], kinds["file.unlink"], kinds["file.mkdir"], kinds["file.chmod"]) == (1, 2, 2, 1)
    assert kinds["file.link"] == 1
    killed = of(story, "process.kill")[0]
    assert (detail(killed)["signal"], killed.object) == (9, str(detail(killed)["target"]))


def test_a_long_argument_is_cut_and_its_size_said(story: list[Event]) -> None:
    echo = next(event for event in of(story, "process.exec") if argv(event)[:1] == ["/bin/echo"])
    assert len(argv(echo)[1]) == 8192
    assert detail(echo)["cut"] == {"argv": 20_009}


def test_what_names_silenced_is_told_as_gaps(story: list[Event]) -> None:
    assert {event.object for event in of(story, "gap")} == {"unencodable"}
    hidden = [e for e in of(story, "process.exec") if detail(e).get("via") == "raw"]
    assert len(hidden) == 2  # echo and mkdir with an argument that is not UTF-8
    # The last five execs inherit such a variable; argv came all the same.
    told = [e.object for e in of(story, "process.exec") if detail(e).get("hidden") and e.object]
    assert told == ["/bin/true", "/usr/bin/cat", "/bin/true", "/usr/bin/sh", "/usr/bin/sh"]
    assert all(e.result == 0 for e in of(story, "process.exec") if detail(e).get("hidden"))


@TELLS_WHO
def test_a_hidden_folder_is_told_with_its_process(version: str) -> None:
    story = decode(gvisor(version))
    change = next(event for event in of(story, "dir.change") if detail(event).get("hidden"))
    assert (change.pid, change.object, change.result) == (1, "", 0)
    gaps = [event for event in of(story, "gap") if event.result is None]
    assert [event.pid for event in gaps] == [1, 1, 1]  # the shell, and two children that begin there
    assert detail(gaps[0])["to_ns"] is None
    # Nothing is said of what was opened in there, and nothing wrong of where that was.
    inside = [e for e in story if e.pid == 32 and e.kind == "process.exec"]
    assert (inside[0].cwd, inside[0].object) == ("", "/usr/bin/cat")


@TELLS_WHO
def test_every_act_has_its_process(version: str) -> None:
    assert all(event.pid for event in decode(gvisor(version)))
