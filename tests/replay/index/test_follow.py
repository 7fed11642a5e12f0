"""Following the log: everything once, soon, and whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sandtrail.errors import StoreError
from sandtrail.replay import follow as following
from sandtrail.replay.decode.decoder import VERSION
from sandtrail.replay.follow import Follower, catch_up
from sandtrail.replay.index import Index
from sandtrail.replay.index import writer as writing
from sandtrail.store.layout import Layout
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from tests.replay.decode.recorded import OK, gvisor, packet
from tests.replay.decode.test_gateway import REQUEST
from tests.replay.index.recording import Recorder, events, follow, indexed, unindexed, wait_for

FORK = packet("SYSCALL_FORK", exit=OK)


def test_a_session_is_told_as_a_whole(recorder: Recorder) -> None:
    recorder.session(seals=3)
    index = follow(recorder.home)
    session = index.session("s1")
    assert (session["command"], session["state"], session["exit_status"]) == (["sh", "-c", "s1"], "ended", 5)
    assert session["sandbox"] == "s1-pod"
    assert session["started_ns"] < session["ended_ns"]
    assert session["events"] == len(events(recorder.home)) > 400
    assert session["gaps"] == sum(event.kind == "gap" for event in events(recorder.home))
    streams = {stream["source"]: stream for stream in index.streams("s1")}
    assert streams["gvisor"]["frames"] == len(gvisor("20260905")) + 2
    assert all(stream["closed"] for stream in streams.values())
    assert streams["gvisor"]["reason"] == "end of connection"


def test_an_index_of_nothing_is_empty(home: Path) -> None:
    index = catch_up(home)
    assert index.sessions() == []
    assert index.events() == ([], None)
    assert index.log_index() == 0


def test_what_is_recorded_while_following_is_there_at_the_next_step(recorder: Recorder) -> None:
    trace = recorder.open("gvisor")
    recorder.seal()
    follower = Follower(recorder.home)
    assert follower.step() > 0
    assert Index(recorder.home).session("s1")["state"] == "recording"
    for count in range(1, 4):
        trace.write(FORK)
        recorder.seal()
        assert follower.step() == 1
        assert len(events(recorder.home)) == 1 + count
    assert follower.step() == 0


def test_an_event_is_visible_within_two_seconds(home: Path) -> None:
    """The real sealer at its own pace, and a follower that polls."""
    stopped = threading.Event()
    writer = SpoolWriter(home, "test")
    sealer = Sealer(home)
    follower = Follower(home)
    threads = [threading.Thread(target=work, args=(stopped.is_set,)) for work in (sealer.run, follower.run)]
    for thread in threads:
        thread.start()
    try:
        trace = writer.open({"source": "gvisor", "session": "s1"})
        index = Index(home)
        slowest = 0.0
        for count in range(1, 5):
            trace.write(FORK)
            slowest = max(slowest, wait_for(partial(_has, index, count)))
        assert slowest < 2.0
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _has(index: Index, forks: int) -> bool:
    return len(index.events("s1", kind="syscall.fork")[0]) == forks


@pytest.mark.parametrize("batch", [1, 3])
def test_followers_that_take_turns_make_what_one_makes(recorded: Path, tmp_path: Path, batch: int,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    one, many = unindexed(recorded, tmp_path / "one"), unindexed(recorded, tmp_path / "many")
    follow(one)
    monkeypatch.setattr(following, "_BATCH_ENTRIES", batch)
    read = 1
    while read:
        follower = Follower(many)
        read = follower.step()
        follower.close()
    assert indexed(many) == indexed(one)


# Where a follower may be killed: before which call of what, and how often that is called in one run.
MOMENTS = {
    "before a part is written": (writing, "to_table"),
    "before the transaction": (writing, "_upsert"),
    "before the cursor moves": (writing, "update"),
    "before parts are merged": (writing, "merge_files"),
    "before old files go": (writing.IndexWriter, "collect"),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("nth", [1, 2, 5])
def test_a_follower_that_is_killed_leaves_each_frame_in_the_index_once(
    recorded: Path, tmp_path: Path, moment: str, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = unindexed(recorded, tmp_path / "one"), unindexed(recorded, tmp_path / "other")
    follow(one)
    monkeypatch.setattr(following, "_BATCH_ENTRIES", 1)
    where, name = MOMENTS[moment]
    pid = os.fork()
    if not pid:
        _die_before(where, name, nth)
        try:
            follow(other)
        finally:
            os._exit(0)  # the moment never came: the run is whole, which is checked all the same
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or nth > 1, "the moment never came"
    follow(other)
    assert indexed(other) == indexed(one)
    known = {part["path"] for part in Index(other)._parts(None)}
    left = {str(path.relative_to(other)) for path in (other / "events").glob("*/*")}
    retired = left - known
    assert not [name for name in retired if name.rpartition("/")[2].startswith(".")], "half a file is left"


def _die_before(where: Any, name: str, nth: int) -> None:
    real, calls = getattr(where, name), 0

    def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    setattr(where, name, dying)


@pytest.mark.parametrize("stored", [False, True], ids=["failed and not stored", "failed but stored"])
def test_a_transaction_that_fails_is_made_again(
    recorded: Path, tmp_path: Path, stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = unindexed(recorded, tmp_path / "one"), unindexed(recorded, tmp_path / "other")
    follow(one)
    monkeypatch.setattr(following, "_BATCH_ENTRIES", 2)
    real: Callable[..., None] = writing.IndexWriter.commit
    failures = iter([True, False, True, False, False, True] + [False] * 100)

    def failing(self: writing.IndexWriter, *args: Any) -> None:
        if next(failures):
            if stored:
                real(self, *args)
            raise OSError(28, "No space left on device")
        real(self, *args)

    monkeypatch.setattr(writing.IndexWriter, "commit", failing)
    follower = Follower(other)
    failed = 0
    while True:
        try:
            if not follower.step():
                break
        except OSError:
            failed += 1
    follower.close()
    assert failed == 3
    assert indexed(other) == indexed(one)


def test_there_is_one_follower(recorded: Path, tmp_path: Path) -> None:
    home = unindexed(recorded, tmp_path / "home")
    follower = Follower(home)
    with pytest.raises(StoreError, match="another follower"):
        Follower(home)
    with pytest.raises(StoreError, match="does not catch up"):
        catch_up(home, timeout=0.2)
    worker = threading.Thread(target=lambda: [follower.step() for _ in range(5)])
    worker.start()
    assert catch_up(home).log_index() > 10
    worker.join()
    follower.close()
    Follower(home).close()


def test_other_decoders_make_the_index_anew(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = unindexed(recorded, tmp_path / "home")
    before = indexed(follow(home).home)
    files = {path.name for path in (home / "events").glob("*/*")}
    monkeypatch.setattr(following, "VERSION", VERSION + 1)
    follower = Follower(home)
    assert Index(home).sessions() == []
    while follower.step():
        pass
    follower.close()
    assert indexed(home) == before
    assert not files & {path.name for path in (home / "events").glob("*/*")}


def test_a_damaged_segment_is_a_gap_and_the_rest_goes_on(recorder: Recorder) -> None:
    recorder.session(seals=6)
    blob = Layout(recorder.home).segment(3)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    Layout(recorder.home).segment(4).unlink()
    index = follow(recorder.home)
    gaps = [event for event in events(recorder.home) if event.object == "evidence damaged"]
    assert [event.ref for event in gaps] == ["3.0", "4.0"]
    step = -(-len(gvisor("20260905")) // 6)
    assert [event.result for event in gaps] == [step, step]
    assert "is not the one that was signed" in json.loads(gaps[0].detail)["what"]
    session = index.session("s1")
    assert (session["state"], session["exit_status"]) == ("ended", 5)
    assert session["facts"]["completeness"]["from_first_instruction"] is False


def test_a_session_whose_recorder_died_has_ended(home: Path, at_once: None) -> None:
    first = Recorder(home, run="one")
    first.open("gvisor").write_many(gvisor("20260905")[:18])
    first.seal()
    first.sealer.leave()
    first.spool.close()
    follow(home)
    second = Recorder(home, run="two")
    second.session("s2")
    index = follow(home)
    session = index.session("s1")
    (gap,) = [event for event in events(home) if event.kind == "gap"]
    assert session["state"] == "ended"
    assert session["facts"]["cut_off"] == gap.object == "recorder ended without a stop"
    told = json.loads(gap.detail)
    assert told["from_ns"] <= session["ended_ns"] < told["to_ns"]
    assert all(stream["closed"] for stream in index.streams("s1"))
    # The exec whose last message never came is told all the same.
    assert [event.object for event in events(home) if event.kind == "process.exec"][-1] == "/usr/bin/cat"
    assert not [event for event in events(home, "s2") if event.object == gap.object]


def test_what_comes_after_a_session_s_end_is_added_to_it(recorder: Recorder) -> None:
    recorder.session()
    before = follow(recorder.home).session("s1")
    late = recorder.open("lifecycle", part="exec-1")
    recorder.act(late, "exec", container="s1-agent")
    recorder.seal()
    assert follow(recorder.home).session("s1")["state"] == "recording"
    late.close("ended")
    recorder.seal()
    after = follow(recorder.home).session("s1")
    assert (after["state"], after["exit_status"], after["ended_ns"]) == ("ended", 5, before["ended_ns"])
    assert after["events"] == before["events"] + 3 == len(events(recorder.home))


def test_whoever_cleans_up_ends_the_session_of_a_recorder_that_is_gone(recorder: Recorder) -> None:
    recorder.open("lifecycle", part="record", command=["sleep"])
    trace = recorder.open("gvisor")
    trace.close("end of connection")
    recorder.seal()
    assert follow(recorder.home).session("s1")["state"] == "recording"
    cleanup = recorder.open("lifecycle", part="cleanup")
    recorder.act(cleanup, "delete", reason="the recorder of this session is gone")
    cleanup.close("ended")
    recorder.seal()
    index = follow(recorder.home)
    assert index.session("s1")["state"] == "ended"
    assert [s["reason"] for s in index.streams("s1") if s["descriptor"].get("part") == "record"] == [
        "its recorder is gone"
    ]


def test_a_session_ends_though_its_gateway_died_and_the_record_stops(recorder: Recorder) -> None:
    acts, gateway = recorder.open("lifecycle"), recorder.open("gateway")
    gateway.write(json.dumps(REQUEST).encode())
    acts.close("ended")
    recorder.seal()
    assert follow(recorder.home).session("s1")["state"] == "recording"
    recorder.stop()
    index = follow(recorder.home)
    assert index.session("s1")["state"] == "ended"
    assert "http.exchange" in [event.kind for event in events(recorder.home)]


def test_a_restarted_receiver_does_not_end_a_session(recorder: Recorder) -> None:
    first = recorder.open("gvisor")
    first.write_many(gvisor("20260905")[:20])
    recorder.seal()
    second = recorder.open("gvisor", continues=f"{first.id:016x}")
    second.write_many(gvisor("20260905")[20:40])
    recorder.seal()
    index = follow(recorder.home)
    assert index.session("s1")["state"] == "recording"
    assert {(s["closed"], s["reason"]) for s in index.streams("s1")} == {
        (True, f"goes on as {second.id:016x}"),
        (False, ""),
    }


def test_drops_are_counted_with_their_stream(recorder: Recorder) -> None:
    trace = recorder.open("gvisor")
    trace.write_many([packet("SYSCALL_FORK", exit=OK, dropped=n) for n in (0, 2, 7)])
    recorder.seal()
    (stream,) = follow(recorder.home).streams("s1")
    assert stream["dropped"] == 7


@pytest.mark.parametrize("name", ["../../etc/x", "a'b\"; DROP TABLE sessions", "é" * 60, " ", "\x1b[31m", "x" * 500])
def test_a_session_s_name_can_be_anything(recorder: Recorder, name: str) -> None:
    stream = recorder.open("gvisor", name)
    stream.write(FORK)
    recorder.seal()
    index = follow(recorder.home)
    (session,) = index.sessions()
    assert len(index.events(session["id"])[0]) == len(events(recorder.home, session["id"])) == 2
    assert {path.parent.parent for path in recorder.home.glob("events/*/*")} == {recorder.home / "events"}


def test_streams_that_name_no_session_are_each_their_own(recorder: Recorder) -> None:
    for _ in range(2):
        recorder.spool.open({"source": "gvisor"}).write(FORK)
    recorder.spool.open({"source": "collector"}).note({"note": "error", "cause": "x"})
    recorder.seal()
    index = follow(recorder.home)
    assert len(index.sessions()) == 2
    assert all(session["id"].startswith("unbound-") for session in index.sessions())
    assert [event.kind for event in events(recorder.home, "recorder")] == ["stream.open", "note.error"]


def test_run_says_what_is_wrong_and_goes_on_when_it_is_right_again(recorder: Recorder) -> None:
    recorder.session()
    checkpoint = Layout(recorder.home).checkpoint
    signed = checkpoint.read_bytes()
    checkpoint.write_bytes(signed.replace(b"\n", b"\nx", 1))
    stopped = threading.Event()
    follower = Follower(recorder.home)
    worker = threading.Thread(target=follower.run, args=(stopped.is_set,))
    worker.start()
    try:
        assert not stopped.wait(0.5)
        assert Index(recorder.home).log_index() == 0
        checkpoint.write_bytes(signed)
        wait_for(lambda: Index(recorder.home).log_index() > 0)
    finally:
        stopped.set()
        worker.join()
