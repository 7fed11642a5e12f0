"""A short day in the life of a recorder, and the judge who looks at what is left of it.

`work` takes every step of the append path at least once: spools that fill up, segments under several keys, a torn
record, a new epoch, an erasure, retention, a restart. It tells what it has promised: "written" when the call that wrote
a frame to the spool has returned, "signed" when the sealer has signed for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cbor2
import pytest

from sandtrail.errors import ErasedError, StoreError
from sandtrail.store import frames, sealer, spool, tail
from sandtrail.store.custody import removed
from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import Layout, publish
from sandtrail.store.merkle import leaf_hash, tree_root
from sandtrail.store.note import open_checkpoint
from sandtrail.store.position import has_writer, spools
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.segments import stored_segments
from sandtrail.store.spool import SpoolWriter, Stream
from sandtrail.store.tiles import WIDTH, TileReader
from sandtrail.store.verify import verify

Tell = Callable[[str, bytes], None]
ERASED = b"erased"
RETAINED = b"retained"


@contextlib.contextmanager
def hurried() -> Iterator[None]:
    """Segments, checkpoints and duties are due at every step, spools full after a few records."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT", "DUTY_EVERY"):
            patched.setattr(sealer, name, 0.0)
        patched.setattr(tail, "DAMAGED_AFTER", 0.0)
        patched.setattr(spool, "ROTATE_AT", 2000)
        yield


class Work:
    """What a day has come to; `tell` hears each promise."""

    def __init__(self, home: Path, tell: Tell) -> None:
        self.home = home
        self._tell = tell
        self._written: list[bytes] = []
        self._sealer: Sealer | None = None

    def write(self, stream: Stream, payload: bytes) -> None:
        """Write a frame; one that the disk refuses is offered again, as the receiver does."""
        for _ in range(3):
            try:
                stream.write(payload)
            except StoreError:
                continue
            self._tell("written", payload)
            self._written.append(payload)
            return

    def step(self, running: Sealer) -> None:
        while running.step():
            pass
        running.step()
        for payload in self._written:
            self._tell("signed", payload)
        self._written.clear()

    @contextlib.contextmanager
    def sealing(self) -> Iterator[Sealer]:
        """A sealer that dies when anything goes wrong in it."""
        running = Sealer(self.home)
        try:
            yield running
        except BaseException:
            running._log.close()
            raise


def _open(work: Work, name: str, **descriptor: str) -> tuple[SpoolWriter, Stream]:
    for _ in range(3):
        with contextlib.suppress(StoreError):
            writer = SpoolWriter(work.home, name)
            break
    for _ in range(3):
        with contextlib.suppress(StoreError):
            return writer, writer.open(descriptor)
    raise AssertionError("a single fault must not stop a writer")


def _close(writer: SpoolWriter, stream: Stream) -> None:
    for _ in range(3):
        with contextlib.suppress(StoreError):
            stream.close("done")
            break
    writer.close()


def work(home: Path, tell: Tell) -> None:
    """The day. Ends with whatever exception ends the sealer."""
    day = Work(home, tell)
    one, old = _open(day, "one", sandbox="a", session="1")
    two, lost = _open(day, "two", sandbox="b", session="2")
    day.write(old, RETAINED)
    with day.sealing() as running:
        day.step(running)
        cutoff = frames.stamp().realtime_ns
        for number in range(6):
            day.write(old, b"a%d" % number * 150)
            day.write(lost, ERASED + b"%d" % number)
        day.step(running)
        keys = [key.id for key in running.keys.of_session("2")]
        _order(home, {"act": "hold", "keys": keys, "on": True, "case": "c", "by": "b"})
        _order(home, {"act": "hold", "keys": keys, "on": False, "case": "c", "by": "b"})
        _order(home, {"act": "retain", "before": cutoff, "reason": "age", "by": "b"})
        _order(home, {"act": "epoch"})
        day.step(running)
        _order(home, {"act": "erase", "keys": keys, "reason": "asked", "by": "b"})
        day.step(running)
        _close(two, lost)
        day.write(old, b"before the restart")
        running.leave()
    _half_done(day, old)
    with day.sealing() as running:
        day.write(old, b"after the restart")
        torn, stream = _open(day, "torn")
        day.write(stream, b"whole")
        _tear(torn)
        day.step(running)
        _close(one, old)
        running.stop()
    with day.sealing() as running:
        running.stop()


def _half_done(day: Work, stream: Stream) -> None:
    """A sealer that is killed with a blob published, another begun, and nothing signed."""
    with day.sealing() as running, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sealer, "CHECKPOINT_EVERY", 3600.0)
        patched.setattr(sealer, "CHECKPOINT_URGENT", 3600.0)
        day.write(stream, b"sealed and not signed")
        while running.step():
            pass
        running.step()
        (blob,) = (path for number, path in stored_segments(day.home).items() if number == running._segment - 1)
        (blob.parent / f".{blob.name}.1.tmp").touch()
        running._close()


def _order(home: Path, act: dict[str, object]) -> None:
    number = len(list(Layout(home).acts.glob("*.done")))
    publish(Layout(home).acts / f"{number:020d}-{act['act']}.order", cbor2.dumps(act))


def _tear(writer: SpoolWriter) -> None:
    """A record whose writer died in the middle of it."""
    with contextlib.suppress(OSError):
        os.write(writer.fileno(), spool.encode_record(2, 1, 0, (1, 1, 1), [bytes(100)])[:90])
    writer.close()


# -- the judge ---------------------------------------------------------------------------------------------------------


def survived(home: Path) -> set[bytes]:
    """Every payload that can be read; no frame of a stream comes twice, and none is missing without an entry."""
    reader = open_log(home)
    entries = list(reader.entries())
    erased = {key for entry in entries if entry.kind == "erase" for key in entry.map["keys"]}
    gone = {number for first, last in removed(entries) for number in range(first, last + 1)}
    found: set[bytes] = set()
    following: dict[str, int] = {}
    for entry in entries:
        if entry.kind != "segment":
            continue
        for stream, (first, count, _) in entry.map["streams"].items():
            assert first >= following.get(stream, 0), f"stream {stream} comes twice in segment {entry.map['segment']}"
            following[stream] = first + count
        if entry.map["segment"] in gone:
            continue
        try:
            found |= {frame.payload for frame in reader.frames(entry.map["segment"])}
        except ErasedError:
            assert entry.map["key"] in erased, "a data key is gone that no entry speaks of"
    return found


def judge(home: Path, promised: Iterable[bytes], seen: Sequence[bytes] = ()) -> None:
    """Nothing is corrupt now; a new recorder starts, and then everything promised is there, and it records on.

    `seen`: checkpoints that somebody may have read; the log must still be one that grew out of them.
    """
    if (home / "log" / "checkpoint").exists():
        report = verify(home)
        assert report.ok, f"before the restart: {report.findings}"
    Sealer(home).stop()
    report = verify(home)
    assert (report.ok, report.unsigned_files) == (True, 0), report
    writer = SpoolWriter(home, "later")
    writer.open({}).write(b"recorded on")
    writer.close()
    Sealer(home).stop()
    report = verify(home)
    assert (report.ok, report.unsigned_files) == (True, 0), report
    for note in seen:
        _consistent(home, note)
    found = survived(home)
    kinds = {entry.kind for entry in open_log(home).entries()}
    excused = {name for kind, name in (("erase", ERASED), ("retain", RETAINED)) if kind in kinds}
    missing = [payload for payload in promised if payload not in found and not any(map(payload.startswith, excused))]
    assert not missing, f"promised and lost: {missing}"
    assert b"recorded on" in found
    assert [path for path in spools(home) if not has_writer(path)] == []


def _consistent(home: Path, note: bytes) -> None:
    old = open_checkpoint(note, load_verifier(home))
    tiles = TileReader(Layout(home).log, open_log(home).size())
    entries = [entry for number in range(-(-old.size // WIDTH)) for entry in tiles.entries(number)]
    assert tree_root([leaf_hash(entry) for entry in entries[: old.size]]) == old.root, "a signed past was rewritten"
