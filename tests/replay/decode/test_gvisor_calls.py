"""Calls told by several messages, in the orders in which real versions send them, and with any of them silenced."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandtrail.replay.decode.gvisor.schema import CLASSES
from sandtrail.replay.decode.gvisor.stream import GvisorStream
from sandtrail.replay.events import Event
from tests.replay.decode.recorded import OK, decode, packet

Packets = list[bytes]

RAW = packet("SYSCALL_RAW", exit=OK, sysno=59)
TYPED = packet("SYSCALL_EXECVE", exit=OK, sysno=59, pathname=b"/bin/tool", argv=[b"tool", b"x"])
REPORT = packet("SENTRY_EXEC", binary_path=b"/bin/tool", argv=[b"tool", b"x"], binary_sha256=b"\1" * 32)
WRITE = packet("SYSCALL_WRITE", exit=OK, fd=1, fd_path=b"/dev/null")
LOADER = packet("SYSCALL_OPEN", exit=OK, fd=-100, pathname=b"/etc/ld.so.cache")
STACK = packet("SYSCALL_PRLIMIT64", exit=OK, resource=3)
CHDIR_RAW = packet("SYSCALL_RAW", exit=OK, sysno=80)
CHDIR = packet("SYSCALL_CHDIR", exit=OK, sysno=80, fd=-100, pathname=b"/srv", context={"cwd": b"/srv"})


def notify(status: int) -> bytes:
    return packet("SENTRY_EXIT_NOTIFY_PARENT", exit_status=status)


def nobody(data: bytes) -> bytes:
    """A raw message as versions before 2026 send it: without its context."""
    message = CLASSES[data[2]].FromString(data[8:])
    message.ClearField("context")
    return data[:8] + bytes(message.SerializeToString())


def execs(found: list[Event]) -> list[tuple[str, int | None, dict[str, Any]]]:
    return [(e.object, e.result, json.loads(e.detail)) for e in found if e.kind == "process.exec"]


def gaps(found: list[Event]) -> list[dict[str, Any]]:
    return [json.loads(event.detail) for event in found if event.kind == "gap"]


@pytest.mark.parametrize(
    "order",
    [
        pytest.param([RAW, TYPED, REPORT, WRITE], id="2026"),
        pytest.param([REPORT, nobody(RAW), TYPED, WRITE], id="2022, 2025"),
        pytest.param([REPORT, WRITE], id="only the sentry's points"),
        pytest.param([RAW, REPORT, WRITE], id="path of the call not UTF-8, image's fine"),
    ],
)
def test_an_exec_is_one_event(order: Packets) -> None:
    found = decode(order)
    ((path, result, detail),) = execs(found)
    assert (path, result, detail["via"], detail["argv"]) == ("/bin/tool", 0, "sentry", ["tool", "x"])
    assert not gaps(found)
    assert [event.process for event in found if event.kind == "file.write"] == ["tool"]


@pytest.mark.parametrize(
    ("after", "result", "outcome"),
    [
        ([LOADER], 0, "loaded"),
        ([STACK], 0, "loaded"),
        ([RAW, TYPED, REPORT], -1, "failed"),
        ([notify(127 << 8)], -1, "failed"),
        ([notify(126 << 8)], -1, "failed"),
        ([WRITE, notify(127 << 8)], -1, "failed"),
        ([notify(0)], None, "unknown"),
        ([WRITE] * 20, None, "unknown"),
        ([], None, "unknown"),
    ],
)
def test_an_exec_that_was_not_reported_is_judged_by_what_follows(after: Packets, result: int, outcome: str) -> None:
    path, found, detail = execs(decode([RAW, TYPED, *after]))[0]
    assert (path, found, detail["outcome"], detail["argv"]) == ("/bin/tool", result, outcome, ["tool", "x"])


def test_a_search_of_the_path_is_one_program_and_failures() -> None:
    tries = [packet("SYSCALL_EXECVE", exit=OK, sysno=59, pathname=p, argv=[b"tool"]) for p in (b"/a/tool", b"/b/tool")]
    found = decode([RAW, tries[0], RAW, tries[1], RAW, TYPED, REPORT])
    assert [(path, result) for path, result, _ in execs(found)] == [("/a/tool", -1), ("/b/tool", -1), ("/bin/tool", 0)]
    assert not gaps(found)


def test_a_hidden_exec_is_a_gap_of_its_thread() -> None:
    found = decode([RAW, LOADER, WRITE])
    ((path, result, detail),) = execs(found)
    assert (path, result, detail["via"], detail["hidden"]) == ("", 0, "raw", True)
    (gap,) = gaps(found)
    assert (gap["cause"], gap["count"], gap["syscall"]) == ("unencodable", 1, "execve")
    assert {event.pid for event in found} == {7}


def test_a_hidden_exec_of_an_older_version_is_a_gap_of_nobody() -> None:
    found = decode([nobody(RAW), WRITE])
    assert [(path, detail["hidden"]) for path, _, detail in execs(found)] == [("", True)]
    assert [(event.pid, event.object) for event in found if event.kind == "gap"] == [(0, "unencodable")]


def test_an_exec_with_a_hidden_environment_keeps_its_argv_and_is_a_gap() -> None:
    found = decode([RAW, TYPED, LOADER])
    assert execs(found)[0][2]["argv"] == ["tool", "x"]
    assert "environment" in gaps(found)[0]["what"]


def test_older_versions_say_truly_how_an_exec_ended() -> None:
    first = [REPORT, nobody(RAW), TYPED]
    silent = packet("SYSCALL_EXECVE", exit=OK, sysno=59, pathname=b"/bin/other", argv=[b"other"])
    refused = packet("SYSCALL_EXECVE", exit={"errorno": 2}, sysno=59, pathname=b"/no", argv=[b"no"])
    refused_raw = nobody(packet("SYSCALL_RAW", exit={"errorno": 2}, sysno=59))
    told = execs(decode([*first, nobody(RAW), silent, refused_raw, refused], finish=False))
    assert [(path, result) for path, result, _ in told] == [("/bin/tool", 0), ("/bin/other", 0), ("/no", -1)]


def test_two_threads_do_not_get_in_each_other_s_way() -> None:
    other = {"who": (8, 8)}
    typed = packet("SYSCALL_EXECVE", exit=OK, sysno=59, pathname=b"/bin/b", argv=[b"b"], **other)
    report = packet("SENTRY_EXEC", binary_path=b"/bin/b", argv=[b"b"], **other)
    raw = packet("SYSCALL_RAW", exit=OK, sysno=59, **other)
    found = decode([RAW, raw, TYPED, typed, report, REPORT])
    assert sorted((e.pid, e.object) for e in found if e.kind == "process.exec") == [(7, "/bin/tool"), (8, "/bin/b")]
    assert not gaps(found)


def test_a_change_of_folder_is_one_event() -> None:
    for order in ([CHDIR_RAW, CHDIR, WRITE], [nobody(CHDIR_RAW), CHDIR, WRITE]):
        found = decode(order)
        assert [event.object for event in found if event.kind == "dir.change"] == ["/srv"]
        assert not gaps(found)
        assert found[-1].cwd == "/srv"


def test_a_hidden_folder_is_an_open_gap_until_the_process_goes_elsewhere() -> None:
    clone = packet("SENTRY_CLONE", created_thread_id=9, created_thread_group_id=9, created_thread_start_time_ns=600)
    found = decode([CHDIR, CHDIR_RAW, clone, CHDIR_RAW, CHDIR, clone])
    assert [event.object for event in found if event.kind == "dir.change"] == ["/srv", "", "/srv"]
    assert [(gap["count"], gap["to_ns"]) for gap in gaps(found)] == [(None, None), (None, None)]
    assert [event.kind for event in found if event.n == 1] == ["gap", "gap"]


def test_a_refused_chdir_hides_nothing() -> None:
    refused = {"result": 0, "errorno": 2}
    assert not gaps(decode([packet("SYSCALL_RAW", exit=refused, sysno=80), WRITE]))


def test_a_folder_changed_by_descriptor_is_known_by_what_was_opened() -> None:
    opened = packet("SYSCALL_OPEN", exit={"result": 5}, fd=-100, pathname=b"/data")
    raw = packet("SYSCALL_RAW", exit=OK, sysno=81, arg1=5, arg2=0xDEAD)
    found = decode([opened, raw, WRITE])
    assert [event.object for event in found if event.kind == "dir.change"] == ["/data"]
    assert not gaps(found)


SEES = ["syscall/open/exit", "syscall/openat/exit", "syscall/openat/enter", "syscall/listen/exit"]
OPEN_RAW = packet("SYSCALL_RAW", exit={"result": 4}, sysno=257)
OPEN_ENTER = packet("SYSCALL_OPEN", sysno=257, fd=-100, pathname=b"/etc/x")
OPEN_EXIT = packet("SYSCALL_OPEN", sysno=257, fd=-100, pathname=b"/etc/x", exit={"result": 4})


@pytest.mark.parametrize("before", [[], [OPEN_RAW], [OPEN_ENTER], [OPEN_ENTER, OPEN_RAW], [nobody(OPEN_RAW)]])
def test_a_call_that_is_asked_for_twice_is_told_once(before: Packets) -> None:
    found = decode([*before, OPEN_EXIT, WRITE], sees=SEES)
    assert [(e.object, e.result) for e in found if e.kind == "file.open"] == [("/etc/x", 4)]
    assert not gaps(found)


@pytest.mark.parametrize(
    ("before", "path", "result"),
    [([OPEN_RAW], "", 4), ([OPEN_ENTER], "/etc/x", None), ([OPEN_ENTER, OPEN_RAW], "/etc/x", 4)],
)
def test_a_call_whose_names_are_silenced_is_told_with_a_gap(before: Packets, path: str, result: int | None) -> None:
    found = decode([*before, WRITE], sees=SEES)
    assert [(e.object, e.result) for e in found if e.kind == "file.open"] == [(path, result)]
    assert [gap["cause"] for gap in gaps(found)] == ["unencodable"]


def test_registers_alone_are_an_event_where_the_version_has_no_other_point() -> None:
    listening = packet("SYSCALL_RAW", exit=OK, sysno=50, arg1=3)
    found = decode([listening, WRITE], sees=["syscall/open/exit"])
    assert [event.kind for event in found] == ["net.listen", "file.write"]


def test_what_waits_is_told_after_a_second_of_the_log_s_time() -> None:
    stream = GvisorStream("s", "sb", "00")
    rows: list[tuple[Any, ...]] = []
    stream.feed("1.0", 1, 10**9, RAW, rows)
    stream.feed("1.1", 2, 10**9, TYPED, rows)
    assert stream.waiting
    assert not stream.tick(2 * 10**9, rows)
    assert not rows
    assert stream.tick(2 * 10**9 + 1, rows)
    assert [(row[4], row[18]) for row in rows] == [("process.exec", "/bin/tool")]
    assert not stream.waiting


def test_the_raw_beginning_of_a_call_says_nothing() -> None:
    assert not decode([packet("SYSCALL_RAW", sysno=82)])


def test_arm64_has_its_own_numbers() -> None:
    (event,) = decode([packet("SYSCALL_RAW", exit=OK, sysno=35)], machine="aarch64")
    assert event.kind == "file.unlink"


def test_a_silent_fchdir_proves_no_hiding() -> None:
    raw = packet("SYSCALL_RAW", exit=OK, sysno=81, arg1=9, arg2=0xDEAD)
    after = packet("SYSCALL_OPEN", exit={"result": 5}, fd=-100, pathname=b"x", context={"cwd": b"/back"})
    for before in (raw, nobody(raw)):
        found = decode([before, WRITE, after])
        (change,) = [event for event in found if event.kind == "dir.change"]
        assert (change.object, json.loads(change.detail)["hidden"]) == ("", True)
        assert not gaps(found)
        assert [event.object for event in found if event.kind == "file.open"] == ["/back/x"]


def test_a_folder_changed_to_by_a_relative_path_is_the_one_that_the_process_is_in_afterwards() -> None:
    change = packet("SYSCALL_CHDIR", exit=OK, sysno=80, fd=-100, pathname=b"sub", context={"cwd": b"/srv/sub"})
    (event,) = decode([change])
    assert (event.object, event.cwd) == ("/srv/sub", "/srv/sub")
    failed = {"errorno": 2}
    refused = packet("SYSCALL_CHDIR", exit=failed, sysno=80, fd=-100, pathname=b"no", context={"cwd": b"/srv"})
    (event,) = decode([refused])
    assert (event.object, event.result, event.cwd) == ("/srv/no", -1, "/srv")


def test_what_a_typed_fchdir_has_for_a_path_is_not_one() -> None:
    change = packet("SYSCALL_CHDIR", exit=OK, sysno=81, fd=3, pathname=b"junk", context={"cwd": b"/srv"})
    (event,) = decode([change])
    assert (event.object, "pathname" in json.loads(event.detail)) == ("/srv", False)
