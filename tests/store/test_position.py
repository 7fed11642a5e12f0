"""Waiting until what was received is signed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandtrail.errors import NotFoundError, RecorderError
from sandtrail.store.position import last_positions, last_segment, wait_sealed
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from tests.store.recording import payloads


def test_waiting_ends_when_everything_that_was_in_a_spool_is_signed(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    stream = writer.open({})
    sealer = subprocess.Popen([sys.executable, "-m", "sandtrail.store.sealer", "--home", str(store)])
    try:
        for round_ in range(3):
            stream.write(b"%d" % round_)
            wait_sealed(store, timeout=20)
            assert payloads(store) == [b"%d" % number for number in range(round_ + 1)]
        writer.close()
    finally:
        sealer.terminate()
        assert sealer.wait(20) == 0
    wait_sealed(store, timeout=0)


def test_waiting_without_a_recorder_says_what_is_left_and_where(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    writer.open({})
    with pytest.raises(RecorderError, match=f"{writer.size} bytes .* sandtrail up"):
        wait_sealed(store, timeout=0.1)


def test_waiting_where_nothing_was_ever_recorded_returns(store: Path) -> None:
    wait_sealed(store, timeout=0)
    with pytest.raises(NotFoundError):
        open_log(store)


def test_bytes_that_are_recorded_as_damaged_are_not_waited_for(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    writer.path.write_bytes(b"no record")
    writer.close()
    sealer = Sealer(store)
    wait_sealed(store, timeout=0)
    sealer.stop()


def test_the_newest_segment_is_found_behind_any_number_of_other_entries(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SpoolWriter(store, "source")
    writer.open({})
    sealer = Sealer(store)
    assert last_segment(open_log(store)) is None
    assert last_positions(open_log(store)) == {}
    monkeypatch.setattr("sandtrail.store.sealer.SEGMENT_AGE", 0.0)
    monkeypatch.setattr("sandtrail.store.sealer.URGENT_AGE", 0.0)
    monkeypatch.setattr("sandtrail.store.sealer.HEARTBEAT_EVERY", 0.0)
    for _ in range(600):
        sealer.step()
    sealer.stop()
    newest = last_segment(open_log(store))
    assert newest is not None
    assert newest.map["segment"] == 0
    assert newest.index < 5
    assert last_positions(open_log(store)) == {writer.path.name: writer.size}
