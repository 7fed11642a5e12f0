"""`sandtrail timeline --csv`, as it is called."""

from __future__ import annotations

import csv
import io
import subprocess
from pathlib import Path

import pytest

from sandtrail.replay import timeline
from sandtrail.replay.events import COLUMNS
from sandtrail.replay.timeline import read_events
from tests.inside import sandtrail
from tests.replay.api.conftest import seal, write_story


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording in which the sandbox wrote what a terminal and a spreadsheet would obey."""
    home = tmp_path_factory.mktemp("home")
    write_story(home)
    seal(home)
    return home


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return sandtrail("timeline", "--home", home, *arguments)


def test_every_event_is_a_row_that_a_spreadsheet_does_not_obey(home: Path) -> None:
    done = run(home, "--csv")
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = csv.reader(io.StringIO(done.stdout, newline=""))
    assert header == list(COLUMNS)
    events = list(read_events(home, "s1"))
    assert [row[COLUMNS.index("ref")] for row in rows] == [event["ref"] for event in events]
    assert len(rows) > 10
    assert "\x1b" not in done.stdout
    assert not any(cell.startswith(("=", "@", "\t")) for row in rows for cell in row)
    assert run(home, "s1", "--csv").stdout == done.stdout


def test_many_events_come_page_by_page(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(read_events(home))
    assert len(whole) > 30
    monkeypatch.setattr(timeline, "MAX_LIMIT", 10)
    assert list(read_events(home)) == whole


def test_what_is_not_there_and_what_is_two_things_at_once_ends_with_2(home: Path) -> None:
    assert run(home, "nobody", "--csv").returncode == 2
    assert "give one of them" in run(home, "--csv", "--json").stderr
