"""A verification that was interrupted goes on; what it does not read again is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sandtrail.store.layout import Layout
from sandtrail.store.verify import Mode, verify
from sandtrail.store.verify.report import Report
from sandtrail.store.verify.segment import Outcome
from sandtrail.store.verify.state import State
from tests.store.verify.test_procedure import FRAMES, SEGMENTS, make_store


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three entry bundles; all segments are of the first."""
    home = tmp_path_factory.mktemp("state-store") / "home"
    make_store(home, heartbeats=600)
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


def interrupted(home: Path, mode: Mode = "full", after: int = 1) -> Path:
    """Run until so many bundles are done, then Ctrl-C; returns the state that stays."""
    left = [after]

    def progress(_done: int, _of: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(home, mode=mode, resume=True, progress=progress)
    return State(home, "key", mode, keep=True).path


def test_a_run_goes_on_where_it_was_interrupted_and_says_what_it_has_not_read(home: Path) -> None:
    path = interrupted(home)
    assert path.exists()
    assert not path.is_relative_to(home)
    report = verify(home, resume=True)
    assert (report.ok, report.segments, report.frames, report.spared) == (True, SEGMENTS, FRAMES, SEGMENTS)
    assert report.spared_since
    assert not path.exists(), "a run that came to its end spares the next one nothing"
    again = verify(home, resume=True)
    assert (again.ok, again.frames, again.spared) == (True, FRAMES, 0)


def test_without_being_asked_nothing_is_kept_and_nothing_spared(home: Path) -> None:
    path = interrupted(home)
    kept = path.read_bytes()
    assert verify(home).spared == 0
    assert path.read_bytes() == kept
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        verify(home, progress=lambda _done, _of: (_ for _ in ()).throw(KeyboardInterrupt))
    assert not path.exists()


def test_only_the_same_key_and_mode_go_on(home: Path) -> None:
    path = interrupted(home, "stored")
    report = verify(home, mode="full", resume=True)
    assert (report.spared, report.frames) == (0, FRAMES)
    assert not path.exists()
    interrupted(home)
    state = path.read_text()
    path.write_text(state.replace("+A", "+B", 1))
    assert verify(home, resume=True).spared == 0


def test_segments_that_were_found_bad_are_looked_at_again(home: Path) -> None:
    blob = Layout(home).segment(2)
    raw = blob.read_bytes()
    blob.write_bytes(raw[:-1] + b"?")
    interrupted(home)
    report = verify(home, resume=True)
    assert [(finding.type, finding.place) for finding in report.findings] == [("blob-damaged", "segment 2")]
    assert report.spared == 0


def test_other_entries_than_those_that_were_found_good_are_not_spared(home: Path) -> None:
    path = interrupted(home)
    lines = path.read_text().splitlines()
    first, root, *rest = lines[1].split(" ")
    assert (first, len(root)) == ("0", 64)
    path.write_text("\n".join([lines[0], " ".join([first, "00" * 32, *rest])]) + "\n")
    report = verify(home, resume=True)
    assert (report.ok, report.spared, report.frames) == (True, 0, FRAMES)


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[]\n", b"{}\n0 x\n", b'{"v": 1}\n', b"null\n\n"])
def test_a_state_that_is_none_is_not_used(home: Path, damage: bytes) -> None:
    path = interrupted(home)
    path.write_bytes(damage)
    assert verify(home, resume=True).spared == 0


def test_a_line_that_was_cut_short_costs_only_itself(home: Path) -> None:
    path = interrupted(home)
    with path.open("ab") as file:
        file.write(b"256 abcd")
    assert verify(home, resume=True).spared == SEGMENTS


def test_a_bundle_is_good_only_when_all_of_its_segments_are(tmp_path: Path) -> None:
    leaves = [bytes(32), bytes([1]) * 32]
    for outcomes, spared in (([Outcome(0, 5), Outcome(1, 6)], True), ([Outcome(0, 5), Outcome(1, 6, "bad")], False)):
        with pytest.raises(KeyboardInterrupt), State(tmp_path, "key", "full", keep=True) as state:
            assert not state.spares(Report("home"), 0, leaves)
            for outcome in outcomes:
                state.expect(0)
                state.done(0, [outcome])
            state.close(0)
            raise KeyboardInterrupt
        report = Report("home")
        with State(tmp_path, "key", "full", keep=True) as state:
            assert state.spares(report, 0, leaves) == spared
        assert (report.spared, report.frames) == ((2, 11) if spared else (0, 0))
