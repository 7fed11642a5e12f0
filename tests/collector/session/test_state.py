"""What a session leaves for whoever has to clean up after it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sandtrail.collector.session import sendbuffer
from sandtrail.collector.session.state import State, claim_session_id, process_start, sessions
from sandtrail.errors import NotFoundError, UsageError


def state(home: Path, session: str = "s1") -> State:
    return State(home, session, "record", f"{session}-pod", f"{session}-agent", Path("/bin/true"), home / "root")


def test_what_is_saved_is_what_is_loaded(home: Path) -> None:
    saved = state(home)
    saved.save()
    assert State.load(home, "s1") == saved
    assert list(sessions(home)) == [saved]
    saved.forget()
    assert list(sessions(home)) == []
    with pytest.raises(NotFoundError, match="s1"):
        State.load(home, "s1")


def test_a_state_file_that_was_cut_off_is_passed_over(home: Path) -> None:
    state(home, "good").save()
    (home / "run" / "sessions" / "bad.json").write_text('{"home": "/x"')
    assert [found.session for found in sessions(home)] == ["good"]


def test_a_session_belongs_to_a_process_not_to_a_pid(home: Path) -> None:
    mine = state(home)
    assert mine.owned
    mine.owner_start = (mine.owner_start or 0) - 1  # another process had this pid before
    assert not mine.owned
    gone = subprocess.Popen(["true"])
    gone.wait()
    mine.owner_pid, mine.owner_start = gone.pid, 1
    assert not mine.owned


def test_a_process_that_has_ended_but_is_not_reaped_is_gone() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(process.pid) is None
    process.wait()


def test_ids_are_short_and_sort_by_day(home: Path) -> None:
    ids = {claim_session_id(home) for _ in range(100)}
    assert len(ids) == 100
    assert all(len(name) == 13 and name.replace("-", "").isalnum() for name in ids)


def test_an_id_is_never_used_twice_in_one_home(home: Path) -> None:
    assert claim_session_id(home, "run-1") == "run-1"
    with pytest.raises(UsageError, match="has that id"):
        claim_session_id(home, "run-1")


@pytest.mark.parametrize("name", ["../x", "-x", "a b", "a/b", "x" * 41, "é", "x\n", "."])
def test_an_id_names_a_file_a_namespace_and_a_host(home: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        claim_session_id(home, name)


@pytest.mark.needs("root")
def test_the_send_buffer_is_raised_for_a_moment_and_put_back_even_after_a_kill() -> None:
    setting = Path("/proc/sys/net/core/wmem_default")
    before = setting.read_text()
    with sendbuffer.raised() as size:
        assert size >= sendbuffer.WANTED
        assert int(setting.read_text()) == size
        # As a killed run leaves it: raised, with the note of what was before.
        left = Path("/run/sandtrail-wmem.before").read_text() if int(before) < sendbuffer.WANTED else before
    assert setting.read_text() == before
    Path("/run/sandtrail-wmem.before").write_text(left)
    setting.write_text(str(sendbuffer.WANTED))
    sendbuffer.restore()
    assert setting.read_text() == before
    assert not Path("/run/sandtrail-wmem.before").exists()
