"""The index does not outlive the evidence: what the log says is erased or removed goes out of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from sandtrail.errors import NotFoundError, StoreError
from sandtrail.replay.follow import Follower
from sandtrail.replay.index import Index, catalog, purge, writer
from sandtrail.replay.index.holdings import Ranges
from sandtrail.replay.summaries import Summaries
from sandtrail.replay.timeline import Timelines
from sandtrail.store.custody import carry_out
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.layout import Layout
from sandtrail.store.reader import open_log
from tests.replay.index.recording import Recorder, events, follow, indexed, unindexed
from tests.replay.index.test_migrations import cluster, create_database  # noqa: F401  # a fixture
from tests.store.faults_os import unreadable

MARK = "zanzibar-7f3e91"
BY = {"reason": "asked for by the person concerned", "by": "operator"}


def holding(folder: Path, words: str = MARK) -> set[str]:
    """The files below a folder in which the words can be read, or stand in their names; Parquet is taken apart."""
    found = set()
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        data = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            data += json.dumps(pq.read_table(path).to_pylist()).encode()
        if words in name or words.encode() in data:
            found.add(name)
    return found


def tell(recorder: Recorder, session: str, words: str) -> None:
    """A session that says the words wherever a session can say any."""
    life = recorder.open("lifecycle", session, part="record", command=["sh", "-c", words])
    trace = recorder.open("gvisor", session, sees=[words])
    recorder.act(life, "exit", container=words, exit_status=0)
    trace.note({"note": "error", "cause": words})
    recorder.seal()
    recorder.act(life, "runtime", event="signal", words=words)
    trace.close(words)
    life.close("ended")
    recorder.seal()


def erase(recorder: Recorder, session: str) -> int:
    keys = [key.id for key in DataKeys(recorder.home).of_session(session)]
    done = carry_out(recorder.sealer, {"act": "erase", "keys": keys, **BY})
    return int(done["entry"])


def retain(recorder: Recorder, before: int) -> int:
    carry_out(recorder.sealer, {"act": "retain", "before": before, **BY})
    return open_log(recorder.home).size() - 1


def boundary(home: Path) -> int:
    """A moment between the segments of today and those to come."""
    return max(int(e.map["last"][0]) for e in open_log(home).entries() if e.kind == "segment") + 1


@pytest.fixture
def told(recorder: Recorder) -> Recorder:
    """Two sessions, indexed and summarised, one of which is to be erased."""
    recorder.session("s1")
    tell(recorder, f"of-{MARK}", MARK)
    Timelines(recorder.home, follow(recorder.home)).summarise()
    return recorder


def test_an_erased_session_leaves_nothing_in_index_and_catalog(told: Recorder) -> None:
    before = indexed(told.home)["s1"]
    where = holding(told.home)
    assert {Path(name).parts[0] for name in where} >= {"events", "timelines", "keys"}
    assert any(name.startswith("catalog.db") for name in where)
    erase(told, f"of-{MARK}")
    index = follow(told.home)
    assert {name for name in holding(told.home) if not name.startswith("spool/")} == set()
    assert indexed(told.home)["s1"] == before
    with pytest.raises(NotFoundError):
        index.session(f"of-{MARK}")
    assert index.events(q=MARK) == ([], None)


def test_what_stays_says_when_and_how_much_and_not_of_whom(told: Recorder) -> None:
    row = Index(told.home).keys(f"of-{MARK}")[0]
    entry = erase(told, f"of-{MARK}")
    index = follow(told.home)
    (removal,) = index.removals()
    manifests = [
        e.map for e in open_log(told.home).entries() if e.kind == "segment" and e.map["key"].hex() == row["id"]
    ]
    assert (removal["kind"], removal["log_index"], removal["keys"]) == ("erase", entry, [row["id"]])
    assert (removal["segments"], removal["frames"]) == (len(manifests), sum(m["frames"] for m in manifests)) == (2, 7)
    assert (removal["from_ns"], removal["to_ns"]) == (manifests[0]["first"][0], manifests[-1]["last"][0])
    assert {name: removal[name] for name in BY} == BY
    assert index.removed_by(row["id"]) == removal


def test_an_index_made_anew_says_the_same(told: Recorder, tmp_path: Path) -> None:
    erase(told, f"of-{MARK}")
    removals = follow(told.home).removals()
    copy = unindexed(told.home, tmp_path / "copy")
    assert follow(copy).removals() == removals
    assert indexed(copy) == indexed(told.home)
    with closing(Index(copy)) as index:
        assert index.events(q="evidence damaged") == ([], None)


def test_a_key_that_nobody_erased_is_damage(told: Recorder, tmp_path: Path) -> None:
    (key,) = DataKeys(told.home).of_session(f"of-{MARK}")
    copy = unindexed(told.home, tmp_path / "copy")
    DataKeys(copy).destroy(key.id)
    index = follow(copy)
    assert index.removals() == []
    gaps = [event.object for event in events(copy, "recorder") if event.kind == "gap"]
    assert set(gaps) == {"evidence damaged"}


def test_an_erasure_that_was_signed_later_takes_even_what_was_said_of_the_damage(
    told: Recorder, tmp_path: Path
) -> None:
    """A follower that met the missing key before it could see the entry."""
    (key,) = DataKeys(told.home).of_session(f"of-{MARK}")
    copy = unindexed(told.home, tmp_path / "copy")
    DataKeys(copy).destroy(key.id)
    follow(copy)
    assert [event for event in events(copy, "recorder") if event.object == "evidence damaged"]
    erase(told, f"of-{MARK}")
    shutil.copytree(told.home / "log", copy / "log", dirs_exist_ok=True)
    (removal,) = follow(copy).removals()
    assert removal["frames"] == 7
    assert not [event for event in events(copy, "recorder") if event.object == "evidence damaged"]


@pytest.mark.parametrize("step", ["whole", "collect", "sweep", "scrub", "commit"])
def test_a_follower_that_is_killed_in_the_middle_goes_on(told: Recorder, step: str) -> None:
    """Killed right after each step of a purge, and the next one finishes it."""
    erase(told, f"of-{MARK}")
    pid = os.fork()
    if not pid:
        try:
            _killed_after(step)
            follow(told.home)
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "it ended before it could be killed"
    index = follow(told.home)
    assert {name for name in holding(told.home) if not name.startswith("spool/")} == set()
    (removal,) = index.removals()
    assert removal["frames"] == 7
    assert index.session("s1")["events"] == len(events(told.home))


def _killed_after(step: str) -> None:
    owner, name = {
        "whole": (purge, "_whole"),
        "collect": (writer.IndexWriter, "collect"),
        "sweep": (Summaries, "sweep"),
        "scrub": (writer.IndexWriter, "scrub"),
        "commit": (writer.IndexWriter, "commit"),
    }[step]
    real = getattr(owner, name)
    times = iter(range(100))
    # The first call of these is the follower's at its start, or that for what was read before the act.
    late = step in ("collect", "sweep")

    def dying(*args: Any, **more: Any) -> Any:
        found = real(*args, **more)
        if not late or next(times):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, dying)


def test_what_a_stream_says_after_its_erasure_begins_the_session_anew(recorder: Recorder) -> None:
    """Nobody erases what is being recorded, but an order may meet a stream that its writer has forgotten to close."""
    trace = recorder.open("gvisor", sees=[MARK])
    trace.note({"note": "error", "cause": MARK})
    recorder.seal()
    follow(recorder.home)
    erase(recorder, "s1")
    assert follow(recorder.home).sessions() == []
    trace.note({"note": "error", "cause": "later"})
    trace.close("end of connection")
    recorder.seal()
    index = follow(recorder.home)
    assert [event.kind for event in events(recorder.home)] == ["note.error", "stream.close"]
    assert index.session("s1")["events"] == 2
    assert {name for name in holding(recorder.home) if not name.startswith("spool/")} == set()


def test_a_catalog_that_somebody_reads_for_long_is_tried_again(told: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    erase(told, f"of-{MARK}")
    monkeypatch.setattr(catalog, "_PATIENCE", 0.2)
    monkeypatch.setattr(catalog, "_BUSY_MS", 200)
    position = Index(told.home).log_index()
    with closing(sqlite3.connect(told.home / "catalog.db", isolation_level=None)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT * FROM sessions").fetchone()
        follower = Follower(told.home)
        with pytest.raises(StoreError, match=r"reading the catalog|cannot be written"):
            follower.step()
        assert Index(told.home).log_index() == position
    while follower.step():
        pass
    follower.close()
    assert {name for name in holding(told.home) if not name.startswith("spool/")} == set()


@pytest.fixture
def postgresql(request: pytest.FixtureRequest) -> str:
    return create_database(request.getfixturevalue("cluster"), f"p{zlib.crc32(request.node.name.encode())}")


@pytest.mark.needs("postgresql")
def test_in_postgresql_no_table_holds_it(recorder: Recorder, postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDTRAIL_CATALOG", postgresql)
    tell(recorder, f"of-{MARK}", MARK)
    tell(recorder, "s1", "harmless")
    index = follow(recorder.home)
    engine = create_engine(postgresql)

    def files() -> list[bytes]:
        with engine.connect() as db:
            db.execution_options(isolation_level="AUTOCOMMIT").execute(text("CHECKPOINT"))
            tables = "('sessions', 'streams', 'event_parts', 'decoder_state', 'data_keys', 'data_key_sessions')"
            paths = db.scalars(text(f"SELECT pg_relation_filepath(oid) FROM pg_class WHERE relname IN {tables}"))
            data = Path(postgresql.rpartition("host=")[2]) / "data"
            return [(data / path).read_bytes() for path in paths]

    assert any(MARK.encode() in data for data in files())
    index.close()
    erase(recorder, f"of-{MARK}")
    index = follow(recorder.home)
    assert not any(MARK.encode() in data for data in files())
    assert [row["id"] for row in index.sessions()] == ["s1"]
    index.close()
    engine.dispose()


# -- retention ---------------------------------------------------------------------------------------------------------


def test_a_session_whose_evidence_is_all_removed_goes(told: Recorder) -> None:
    before = boundary(told.home)
    told.session("s2")
    kept = indexed(follow(told.home).home)["s2"]
    entry = retain(told, before)
    index = follow(told.home)
    assert [row["id"] for row in index.sessions()] == ["s2"]
    assert indexed(told.home)["s2"] == kept
    assert {name for name in holding(told.home) if not name.startswith(("spool/", "keys/"))} == set()
    (removal,) = index.removals()
    assert (removal["kind"], removal["log_index"]) == ("retain", entry)


def half(recorder: Recorder) -> int:
    """A session in two segments, of which the first is to go."""
    life = recorder.open("lifecycle", part="record", command=["sh", "-c", MARK])
    trace = recorder.open("gvisor", sees=[MARK])
    trace.note({"note": "error", "cause": MARK})
    recorder.seal()
    before = boundary(recorder.home)
    trace.note({"note": "error", "cause": "later"})
    trace.close("end of connection")
    recorder.act(life, "exit", container="c", exit_status=0)
    life.close("ended")
    recorder.seal()
    return before


def test_a_session_that_lost_a_part_of_its_evidence_says_so_and_goes_on(recorder: Recorder) -> None:
    before = half(recorder)
    index = follow(recorder.home)
    Timelines(recorder.home, index).summarise()
    had = len(events(recorder.home))
    entry = retain(recorder, before)
    index = follow(recorder.home)
    found = events(recorder.home)
    session = index.session("s1")
    gap = found[-1]
    assert (gap.kind, gap.object, gap.result) == ("gap", "evidence removed after its time", 3)
    assert json.loads(gap.detail)["what"] == f"log entry {entry}: {BY['reason']}"
    assert len(found) == session["events"] == had - 3 + 1
    assert session["gaps"] == sum(event.kind == "gap" for event in found)
    assert all(not event.ref.startswith("0.") or event is gap for event in found)
    assert (session["command"], session["state"], session["exit_status"]) == ([], "ended", 0)
    assert {name for name in holding(recorder.home) if not name.startswith("spool/")} == set()
    timeline = Timelines(recorder.home, index).timeline("s1")
    assert [gap["cause"] for gap in timeline["gaps"]] == ["evidence removed after its time"]


def test_an_index_made_anew_still_knows_whose_the_rest_is(recorder: Recorder, tmp_path: Path) -> None:
    retain(recorder, half(recorder))
    copy = unindexed(recorder.home, tmp_path / "copy")
    index = follow(copy)
    assert [row["id"] for row in index.sessions()] == ["s1"]
    kinds = [event.kind for event in events(copy)]
    assert kinds[-1] == "gap"
    assert "stream.close" in kinds
    assert events(copy)[-1].object == "evidence removed after its time"


def test_a_timeline_that_is_being_read_forgets_what_was_removed(recorder: Recorder) -> None:
    """Even where as many events have come since as went."""
    before = half(recorder)
    index = follow(recorder.home)
    timelines = Timelines(recorder.home, index)
    timelines.timeline("s1")
    retain(recorder, before)
    late = recorder.open("lifecycle", part="exec-1")
    for _ in range(6):
        recorder.act(late, "exec", container="s1-agent")
    late.close("ended")
    recorder.seal()
    index = follow(recorder.home)
    told = timelines.timeline("s1")
    fresh = Timelines(recorder.home, index).timeline("s1")
    assert told == fresh


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(-1, 60))
def test_ranges_hold_what_lies_between_their_ends(steps: list[int], number: int) -> None:
    """Gaps and lengths of ranges in turn, so that no two overlap."""
    pairs, at = [], 0
    for gap, length in zip(steps[::2], [*steps[1::2], 0], strict=False):
        pairs.append((at + gap, at + gap + length))
        at += gap + length + 1
    assert (number in Ranges(reversed(pairs))) == any(first <= number <= last for first, last in pairs)


def test_a_file_that_no_catalog_knows_is_not_left_because_its_folder_cannot_be_listed(told: Recorder) -> None:
    with closing(Follower(told.home)) as follower:
        follower.step()
        left = next((told.home / "events").iterdir()) / "part-left.parquet"
        left.write_text(MARK)
        with unreadable(lambda path: path == left.parent), pytest.raises(OSError, match="Input/output error"):
            follower._writer.collect(everything=True)
        assert left.exists()
        follower._writer.collect(everything=True)
    assert not left.exists()


def test_a_query_leaves_no_files(told: Recorder) -> None:
    with Index(told.home).connection() as db:
        assert db.execute("SELECT current_setting('temp_directory')").fetchone() == ("",)


def test_a_list_of_sessions_leaves_out_one_that_is_erased_meanwhile(told: Recorder) -> None:
    index = Index(told.home)
    rows = index.sessions()
    erase(told, f"of-{MARK}")
    follow(told.home)
    assert len(rows) == 2
    assert [row["id"] for row, _ in Timelines(told.home, index).summaries(rows)] == ["s1"]


def test_a_hold_is_known_by_its_case(told: Recorder) -> None:
    keys = [key.id for key in DataKeys(told.home).of_session("s1")]
    carry_out(told.sealer, {"act": "hold", "keys": keys, "on": True, "case": "4711", "by": "operator"})
    assert [row["held"] for row in follow(told.home).keys("s1")] == ["4711"]
    carry_out(told.sealer, {"act": "hold", "keys": keys, "on": False, "case": "4711", "by": "operator"})
    assert [row["held"] for row in follow(told.home).keys("s1")] == [None]


def test_a_summary_that_was_made_meanwhile_does_not_come_back(told: Recorder) -> None:
    """The API computes a summary from what it has read, and the session is erased before it can keep it."""
    name = f"of-{MARK}"
    row = Index(told.home).session(name)
    kept = Summaries(told.home).read(name)
    assert kept is not None
    erase(told, name)
    index = follow(told.home)
    with pytest.raises(NotFoundError):
        Summaries(told.home).write(row, {k: v for k, v in kept.items() if k != "id"}, lambda: index.session(name))
    assert not list((told.home / "timelines").glob(f"*{MARK}*"))
    assert not Layout(told.home).acts.exists() or not list(Layout(told.home).acts.iterdir())
