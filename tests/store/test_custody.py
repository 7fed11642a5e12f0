from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandtrail.errors import ErasedError, NotFoundError, UsageError
from sandtrail.store import custody
from sandtrail.store.acts import order
from sandtrail.store.custody import carry_out, held, plan_retention
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.evidence import prove
from sandtrail.store.frames import Frame
from sandtrail.store.layout import Layout
from sandtrail.store.leaves import frame_leaf
from sandtrail.store.manifest import Entry
from sandtrail.store.merkle import root_from_path
from sandtrail.store.position import spools
from sandtrail.store.reader import LogReader, open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.segments import check_blob, open_segment
from sandtrail.store.spool import SpoolWriter, Stream
from sandtrail.store.verify import verify
from tests.store.recording import entries, killed, sealed, step_until_idle

SECRET = b"the patient's name is Ada"


def manifests(home: Path) -> list[dict[str, Any]]:
    return [fields for kind, fields in entries(home) if kind == "segment"]


def key_of(home: Path, session: str) -> bytes:
    (key,) = DataKeys(home).of_session(session)
    return key.id


def found(home: Path, text: bytes) -> list[str]:
    """The files in which a text can be read."""
    return [path.name for path in home.rglob("*") if path.is_file() and text in path.read_bytes()]


def stream_of(writer: SpoolWriter, session: str) -> Stream:
    return writer.open({"source": "test", "session": session, "sandbox": f"{session}-pod"})


@pytest.fixture
def two(store: Path) -> Path:
    """A store with two sessions, in one spool, which is gone."""
    writer = SpoolWriter(store, "source")
    one, two = stream_of(writer, "one"), stream_of(writer, "two")
    for number in range(3):
        one.write(SECRET + b" %d" % number)
        two.write(b"harmless %d" % number)
    one.close("done")
    two.close("done")
    writer.close()
    Sealer(store).stop()
    return store


def erase(home: Path, session: str) -> dict[str, object]:
    return order(home, {"act": "erase", "keys": [key_of(home, session)], "reason": "asked to", "by": "tester"})


def test_each_sandbox_has_segments_of_its_own(two: Path) -> None:
    for session in ("one", "two"):
        (manifest,) = [one for one in manifests(two) if one["key"] == key_of(two, session)]
        assert manifest["frames"] == 5
    assert found(two, SECRET) == []
    assert len(sealed(two)) == 10


def test_what_is_erased_can_not_be_read_and_everything_still_verifies(two: Path) -> None:
    frame = next(frame for frame in sealed(two) if SECRET in frame.payload)
    before = prove(open_log(two), frame.ref)
    key = key_of(two, "one")
    erase(two, "one")
    with pytest.raises(ErasedError):
        open_log(two).frame(frame.ref)
    (manifest,) = [one for one in manifests(two) if one["key"] == key]
    check_blob(two, manifest)
    # Proofs that were handed out before hold; without the salt nobody can make one, even who knows the payload.
    when = (frame.realtime_ns, frame.monotonic_ns, frame.boottime_ns)
    leaf = frame_leaf(frame.stream, frame.seq, frame.kind, when, frame.payload, before.salt)
    assert root_from_path(leaf, frame.place, 5, before.inner) == manifest["root"]
    with pytest.raises(ErasedError):
        prove(open_log(two), frame.ref)
    assert found(two, b"one-pod") == []
    others = [one for one in manifests(two) if one["key"] != key]
    assert sum(open_segment(two, one).count for one in others) == 5
    (entry,) = [fields for kind, fields in entries(two) if kind == "erase"]
    assert (entry["keys"], entry["reason"], entry["by"]) == ([key], "asked to", "tester")


def test_an_erasure_frees_the_spool_of_a_writer_that_lives_on(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    one, two = stream_of(writer, "one"), stream_of(writer, "two")
    one.write_many([SECRET] * 50)
    one.close("done")
    two.write(b"harmless")
    sealer = Sealer(store)
    step_until_idle(sealer)
    sealer.settle()
    assert found(store, SECRET) == [writer.path.name]
    result = custody.carry_out(sealer, {"act": "erase", "keys": [key_of(store, "one")]})
    assert found(store, SECRET) == []
    # The last records are of a stream that is open: they may be part of a batch that is not finished.
    assert 0 < result["spool_bytes_left"] < 200
    two.write(b"afterwards")
    two.close("done")
    writer.close()
    sealer.stop()
    assert spools(store) == []
    assert [frame.payload for frame in sealed_but(store) if frame.kind == 2] == [b"harmless", b"afterwards"]


def sealed_but(home: Path) -> list[Frame]:
    """Every frame that can still be read."""
    reader = open_log(home)
    frames: list[Frame] = []
    for manifest in manifests(home):
        try:
            frames += reader.frames(manifest["segment"])
        except ErasedError:
            continue
    return frames


def test_a_stream_that_goes_on_after_its_erasure_gets_a_new_key(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    one = stream_of(writer, "one")
    one.write(SECRET)
    sealer = Sealer(store)
    step_until_idle(sealer)
    key = key_of(store, "one")
    custody.carry_out(sealer, {"act": "erase", "keys": [key]})
    one.write(b"more")
    writer.close()
    sealer.stop()
    assert [frame.payload for frame in sealed_but(store)] == [b"more"]
    assert key_of(store, "one") != key


def test_a_stream_that_goes_on_after_a_restart_keeps_its_key(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    one = stream_of(writer, "one")
    killed(lambda: step_until_idle(Sealer(store)))
    first = Sealer(store)
    first.settle()
    first.leave()
    one.write(b"more")
    writer.close()
    Sealer(store).stop()
    assert {one["key"] for one in manifests(store)} == {key_of(store, "one")}


def test_a_stream_whose_beginning_is_lost_gets_a_key_of_its_own(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    Stream(writer, 0xABC, 7).write(b"orphan")
    writer.close()
    Sealer(store).stop()
    assert [key.sandbox for key in DataKeys(store).all()] == ["stream 0000000000000abc"]


@pytest.mark.parametrize("moment", ["entry", "key"])
def test_an_erasure_that_was_interrupted_is_finished(two: Path, moment: str) -> None:
    key = key_of(two, "one")

    def die() -> None:
        real = DataKeys.destroy

        def destroy(self: DataKeys, ident: bytes) -> None:
            if moment == "key":
                real(self, ident)
            os.kill(os.getpid(), 9)

        DataKeys.destroy = destroy  # type: ignore[method-assign]
        erase(two, "one")

    killed(die)
    Sealer(two).stop()
    assert not [one for one in DataKeys(two).all() if one.id == key]
    assert any(kind == "erase" and key in fields["keys"] for kind, fields in entries(two))


def test_one_look_at_the_log_is_enough_for_an_erasure_and_for_a_retention(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealer = Sealer(two)
    looks: list[int] = []
    real = LogReader.entries

    def look(self: LogReader, *args: int) -> Iterator[Entry]:
        looks.append(len(looks))
        return real(self, *args)

    monkeypatch.setattr(LogReader, "entries", look)
    carry_out(sealer, {"act": "erase", "keys": [key_of(two, "one")], "reason": "r"})
    assert len(looks) == 1
    looks.clear()
    assert carry_out(sealer, {"act": "retain", "before": time.time_ns()})["segments"] == 2
    assert len(looks) == 1
    monkeypatch.undo()
    sealer.stop()
    assert verify(two).ok


def test_a_hold_blocks_erasure_and_retention(two: Path) -> None:
    key = key_of(two, "one")
    hold = {"act": "hold", "keys": [key], "case": "2026-17", "by": "tester"}
    order(two, {**hold, "on": True})
    assert held(open_log(two).entries()) == {key: "2026-17"}
    with pytest.raises(UsageError, match="2026-17"):
        erase(two, "one")
    retained = order(two, {"act": "retain", "before": time.time_ns(), "reason": "90 days"})
    assert retained["held"] == 1
    (kept,) = [one for one in manifests(two) if one["key"] == key]
    check_blob(two, kept)
    order(two, {**hold, "on": False})
    assert held(open_log(two).entries()) == {}
    erase(two, "one")


def test_retention_removes_what_is_older_and_says_which(two: Path) -> None:
    before = time.time_ns()
    plan = plan_retention(two, open_log(two), before)
    assert plan.segments == [0, 1]
    assert plan.size > 0
    result = order(two, {"act": "retain", "before": before, "reason": "90 days", "by": "tester"})
    assert result == {"segments": 2, "held": 0, "bytes": plan.size}
    # Keys under which nothing is left go too: they name their sandboxes.
    assert DataKeys(two).all() == []
    for manifest in manifests(two):
        with pytest.raises(NotFoundError):
            check_blob(two, manifest)
    (entry,) = [fields for kind, fields in entries(two) if kind == "retain"]
    assert (entry["segments"], entry["before"], entry["reason"]) == ([[0, 1]], before, "90 days")
    assert order(two, {"act": "retain", "before": time.time_ns()})["segments"] == 0


def test_a_retention_that_was_interrupted_is_finished(two: Path) -> None:
    def die() -> None:
        custody._remove_segments = lambda *_: os.kill(os.getpid(), 9)
        order(two, {"act": "retain", "before": time.time_ns()})

    killed(die)
    assert len(list(two.rglob("*.seg"))) == 2
    Sealer(two).stop()
    assert list(two.rglob("*.seg")) == []
    assert list(Layout(two).acts.glob("*.order")) == []


@pytest.mark.parametrize(
    "act",
    [
        {"act": "erase", "keys": []},
        {"act": "erase", "keys": [b"short"]},
        {"act": "erase", "keys": [bytes(16)]},
        {"act": "erase"},
        {"act": "hold", "keys": [bytes(16)], "on": True},
        {"act": "retain", "before": "yesterday"},
        {"act": "time"},
    ],
    ids=str,
)
def test_an_order_that_makes_no_sense_is_refused_and_changes_nothing(two: Path, act: dict[str, object]) -> None:
    before = {kind for kind, _ in entries(two)}
    with pytest.raises(UsageError):
        order(two, act)
    assert len(sealed(two)) == 10
    assert {kind for kind, _ in entries(two)} == before
    assert list(Layout(two).acts.iterdir()) == []


def test_the_nodes_own_key_can_not_be_erased(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    writer.open({"source": "collector"}).close("done")
    writer.close()
    Sealer(store).stop()
    with pytest.raises(UsageError, match="no sandbox"):
        order(store, {"act": "erase", "keys": [DataKeys(store).all()[0].id]})


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xa0", os.urandom(200)])
def test_a_file_that_is_no_order_is_answered_and_taken_away(two: Path, data: bytes) -> None:
    path = Layout(two).acts / "00000000000000000001-x.order"
    path.write_bytes(data)
    Sealer(two).stop()
    assert not path.exists()
    assert b"cannot be read" in path.with_suffix(".done").read_bytes()


@pytest.fixture
def running(two: Path) -> Iterator[Sealer]:
    """A sealer at work in a thread."""
    sealer, ended = Sealer(two), threading.Event()
    thread = threading.Thread(target=sealer.run, args=(ended.is_set,))
    thread.start()
    yield sealer
    ended.set()
    thread.join()
    sealer.stop()


def test_a_recorder_that_runs_carries_an_order_out(running: Sealer) -> None:
    home = running.home
    starts = [kind for kind, _ in entries(home)].count("start")
    erase(home, "one")
    assert DataKeys(home).of_session("one") == []
    assert [kind for kind, _ in entries(home)].count("start") == starts
