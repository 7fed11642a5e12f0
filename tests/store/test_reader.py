"""Reading beside a writer: entries, segments, frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandtrail.errors import DamagedError, NotFoundError, UsageError
from sandtrail.store import sealer as module
from sandtrail.store.keys import load_signer, load_verifier
from sandtrail.store.layout import Layout
from sandtrail.store.log import Log
from sandtrail.store.manifest import encode_entry
from sandtrail.store.reader import LogReader, open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from tests.store.recording import step_until_idle


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT", "HEARTBEAT_EVERY"):
        monkeypatch.setattr(module, name, 0.0)


def test_frames_are_read_by_segment_and_by_reference(store: Path) -> None:
    stream = SpoolWriter(store, "source").open({"source": "test"})
    stream.write_many([b"a", b"b", b"c"])
    sealer = Sealer(store)
    step_until_idle(sealer)
    stream.write(b"d")
    sealer.stop()
    reader = open_log(store)
    assert [frame.payload for frame in reader.frames(0)][1:] == [b"a", b"b", b"c"]
    assert [frame.ref for frame in reader.frames(0)] == ["0.0", "0.1", "0.2", "0.3"]
    assert reader.frame("0.2").payload == b"b"
    assert reader.frame("1.0").payload == b"d"
    assert reader.frame("1.0").seq == 4
    with pytest.raises(NotFoundError, match="has 4 frames"):
        reader.frame("0.4")
    with pytest.raises(NotFoundError, match="no segment 2"):
        reader.frame("2.0")
    with pytest.raises(UsageError):
        reader.frame("two")


def grow(log: Log, count: int) -> None:
    for _ in range(count):
        log.append(encode_entry("heartbeat", {"at": [log.size, 0, 0]}))
    log.publish()


def test_a_reader_follows_a_growing_log_across_tiles(store: Path) -> None:
    log = Log(store, load_signer(store))
    reader = open_log(store)
    seen = 0
    while reader.size() < 530:
        grow(log, 37)
        for entry in reader.entries(seen):
            assert (entry.index, entry.map["at"][0]) == (seen, seen)
            seen += 1
    assert seen == reader.size()
    assert [entry.index for entry in reader.entries(255, 258)] == [255, 256, 257]


def test_a_reader_goes_on_when_the_writer_has_replaced_what_it_was_reading(store: Path) -> None:
    log = Log(store, load_signer(store))
    reader = open_log(store)
    grow(log, 100)
    half_read = reader.entries(0, 100)
    assert next(half_read).index == 0
    not_begun = reader.entries(0, 100)
    for _ in range(4):
        grow(log, 100)
    assert [entry.index for entry in half_read] == list(range(1, 100))
    assert [entry.index for entry in not_begun] == list(range(100))


def test_a_log_without_a_key_or_a_head_is_not_found(store: Path) -> None:
    with pytest.raises(NotFoundError, match="no log"):
        open_log(store)
    reader = LogReader(store, load_signer(store).verifier)
    assert reader.size() == 0
    with pytest.raises(NotFoundError, match="nothing has been recorded"):
        reader.checkpoint()


def test_a_damaged_segment_is_damaged_for_its_reader(store: Path) -> None:
    SpoolWriter(store, "source").open({})
    sealer = Sealer(store)
    step_until_idle(sealer)
    sealer.stop()
    blob = Layout(store).segment(0)
    data = blob.read_bytes()
    for changed in (data[:-1], data[:-1] + b"\0", b"", data + b"\0"):
        blob.write_bytes(changed)
        with pytest.raises(DamagedError):
            open_log(store).frame("0.0")
    blob.unlink()
    with pytest.raises(NotFoundError):
        open_log(store).frame("0.0")


def test_a_head_that_is_signed_by_somebody_else_is_damaged(store: Path) -> None:
    Sealer(store).stop()
    Sealer(store.parent / "other").stop()
    reader = LogReader(store, load_verifier(store.parent / "other"))
    with pytest.raises(DamagedError):
        reader.size()
