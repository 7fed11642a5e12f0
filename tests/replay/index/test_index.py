"""Asking the index, also while it is being written."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.errors import NotFoundError, UsageError
from sandtrail.replay import follow as following
from sandtrail.replay.events import COLUMNS
from sandtrail.replay.follow import Follower
from sandtrail.replay.index import Index
from tests.replay.index.recording import follow, unindexed


@pytest.fixture(scope="module")
def index(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    return follow(unindexed(recorded, tmp_path_factory.mktemp("index") / "home"))


def place(row: dict[str, Any]) -> tuple[int, int, int, int]:
    segment, _, frame = row["ref"].partition(".")
    return row["time_ns"], int(segment), int(frame), row["n"]


def test_sessions_come_newest_first(index: Index) -> None:
    both = index.sessions()
    assert [session["id"] for session in both] == ["s2", "s1"]
    assert index.session("")["id"] == "s2"
    assert index.sessions(limit=1) == both[:1]
    assert index.sessions(before_ns=both[0]["started_ns"]) == both[1:]


def test_what_is_not_there_is_said(index: Index, home: Path) -> None:
    with pytest.raises(NotFoundError, match="no session 'x'"):
        index.session("x")
    with pytest.raises(NotFoundError, match="nothing has been recorded"):
        Index(home).session("")
    assert index.stream("0" * 16) is None
    assert index.events("x") == ([], None)


def test_pages_put_together_are_all_of_it_in_order_of_time(index: Index) -> None:
    whole, end = index.events("s1", limit=10_000)
    assert end is None
    assert [place(row) for row in whole] == sorted(map(place, whole))
    assert tuple(whole[0]) == COLUMNS
    pages, after = [], None
    while True:
        rows, after = index.events("s1", limit=37, after=after)
        pages += rows
        assert len(rows) == 37 or after is None
        if after is None:
            break
    assert pages == whole
    assert len(pages) == index.session("s1")["events"]


def test_rows_come_in_the_order_of_decoding_from_anywhere_on(index: Index) -> None:
    whole = list(index.rows("s1"))
    for start in (0, 1, 100, len(whole) - 1, len(whole), len(whole) + 5):
        assert list(index.rows("s1", start)) == whole[start:]
    by_time = sorted(whole, key=lambda event: place(event._asdict()))
    assert [event._asdict() for event in by_time] == index.events("s1", limit=10_000)[0]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"kind": "process.exec"}, lambda row: row["kind"] == "process.exec"),
        ({"kind": "file."}, lambda row: row["kind"].startswith("file.")),
        ({"pid": 16}, lambda row: row["pid"] == 16),
        ({"kind": "net.", "pid": 16}, lambda row: row["kind"].startswith("net.") and row["pid"] == 16),
        ({"q": "A.TXT"}, lambda row: "a.txt" in (row["object"] + "\n" + row["detail"]).lower()),
        ({"q": "%"}, lambda row: "%" in row["object"] + row["process"] + row["exe"] + row["detail"]),
        ({"refs": ["1.0", "1.1"]}, lambda row: row["ref"] in ("1.0", "1.1")),
        ({"refs": []}, lambda row: False),
    ],
)
def test_questions(index: Index, asked: dict[str, Any], expected: Any) -> None:
    whole, _ = index.events("s1", limit=10_000)
    assert index.events("s1", limit=10_000, **asked)[0] == [row for row in whole if expected(row)]


@settings(max_examples=60, deadline=None)
@given(text=st.text() | st.sampled_from(["'", "\\", "' OR 1=1 --", "?", "$1", '"', "\0", "%_", "é'\u202e"]))
def test_any_words_are_only_words(index: Index, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    found, _ = index.events(q=text, kind=text[:20] or None, limit=5)
    assert all(text.lower() in (str(row["object"]) + row["detail"] + row["exe"]).lower() or not text for row in found)
    assert index.events(text or "x", refs=[text])[0] == []


@pytest.mark.parametrize("after", ["x", "1", "1:1.1", "1:1:1", "-1:1.1:0", "9" * 200, "1:1.1:0'", f"{1 << 70}:1.1:0"])
def test_a_cursor_that_is_none_is_refused(index: Index, after: str) -> None:
    with pytest.raises(UsageError, match="not a cursor"):
        index.events(after=after)


def test_a_question_about_all_sessions(index: Index) -> None:
    assert {row["session"] for row in index.events(kind="lifecycle.exit")[0]} == {"s1", "s2"}


def test_duckdb_sees_the_events_and_nothing_else(index: Index) -> None:
    with index.connection("s2") as db:
        assert db.execute("SELECT DISTINCT session FROM events").fetchall() == [("s2",)]
        kinds = dict(db.execute("SELECT kind, count(*) FROM events GROUP BY kind").fetchall())
    assert kinds["process.exec"] == 25


def test_readers_beside_the_writer_see_whole_batches_once(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look shows a state that was committed: nothing twice, nothing half, never less than before."""
    home = unindexed(recorded, tmp_path / "home")
    monkeypatch.setattr(following, "_BATCH_ENTRIES", 1)
    index, done, failures = Index(home), threading.Event(), []
    looks = []

    def look() -> None:
        try:
            while not done.is_set():
                with index.connection() as db:
                    found = db.execute("SELECT count(*), count(DISTINCT (ref, n)) FROM events").fetchone()
                assert found is not None
                assert found[0] == found[1]
                looks.append(found[0])
                assert len(list(index.rows("s1"))) <= len(list(index.rows("s1")))
        except BaseException as error:  # noqa: BLE001  # told in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    follower = Follower(home)
    while follower.step():
        pass
    follower.close()
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(set(looks)) > 2
    whole = sum(session["events"] for session in index.sessions())
    with index.connection() as db:
        assert db.execute("SELECT count(*) FROM events WHERE session <> 'recorder'").fetchall() == [(whole,)]


def test_an_index_without_its_files_is_said_to_be_derived(recorded: Path, tmp_path: Path) -> None:
    home = unindexed(recorded, tmp_path / "home")
    home.joinpath("catalog.db").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(Exception, match="derived: move .*catalog.db away"):
        follow(home)
