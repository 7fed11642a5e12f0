"""From one frame to the signature, step by step; each step can fail and is then named."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandtrail.errors import NotFoundError, UsageError
from sandtrail.store import sealer as module
from sandtrail.store.evidence import prove, stream_descriptor
from sandtrail.store.layout import Layout
from sandtrail.store.leaves import frame_leaf
from sandtrail.store.log import read_checkpoint
from sandtrail.store.merkle import leaf_hash, root_from_path
from sandtrail.store.note import open_checkpoint
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.segments import Segment
from sandtrail.store.spool import SpoolWriter
from sandtrail.store.tiles import TileReader
from tests.store.recording import growing, sealed, step_until_idle


@pytest.fixture
def recorded(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six segments of a few frames each."""
    for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT", "HEARTBEAT_EVERY"):
        monkeypatch.setattr(module, name, 0.0)
    writer = SpoolWriter(store, "source")
    stream = writer.open({"source": "test", "session": "one"})
    sealer = Sealer(store)
    for number in range(6):
        stream.write_many([b"%d.%d" % (number, place) for place in range(number + 1)])
        step_until_idle(sealer)
    writer.close()
    sealer.stop()
    return store


def test_every_frame_can_be_proven_and_the_proof_holds_without_us(recorded: Path) -> None:
    reader = open_log(recorded)
    note = read_checkpoint(recorded / "log")
    assert note is not None
    for frame in sealed(recorded):
        proof = prove(reader, frame.ref)
        assert proof.verified
        assert len(proof.checks) == 5
        assert proof.frame == frame
        when = (frame.realtime_ns, frame.monotonic_ns, frame.boottime_ns)
        leaf = frame_leaf(frame.stream, frame.seq, frame.kind, when, frame.payload, proof.salt)
        assert root_from_path(leaf, frame.place, proof.frames_in_segment, proof.inner) == proof.manifest["root"]
        entry = TileReader(recorded / "log", proof.log_size).entry(proof.log_index)
        root = root_from_path(leaf_hash(entry), proof.log_index, proof.log_size, proof.outer)
        checkpoint = open_checkpoint(note, reader.verifier)
        assert (root, proof.log_size, proof.checkpoint) == (checkpoint.root, checkpoint.size, note.decode())


def failing(recorded: Path, path: Path, ref: str = "3.1") -> int:
    """The number of the step that fails after the last byte of a file was changed; 0 when none does."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    proof = prove(open_log(recorded), ref)
    path.write_bytes(data)
    assert [check.ok for check in proof.checks[:-1]] == [True] * (len(proof.checks) - 1)
    assert proof.verified == proof.checks[-1].ok
    return 0 if proof.verified else len(proof.checks)


def test_each_step_can_fail(recorded: Path) -> None:
    layout = Layout(recorded)
    partial = next((recorded / "log/tile/0/000.p").iterdir())
    assert failing(recorded, layout.checkpoint) == 1
    assert failing(recorded, partial) == 2
    assert failing(recorded, layout.segment(3)) == 3
    assert failing(recorded, layout.segment(2)) == 0


@pytest.mark.parametrize("what", ["checkpoint", "tile", "bundle", "segment"])
def test_missing_evidence_is_a_failed_step_and_no_exception(recorded: Path, what: str) -> None:
    reader = open_log(recorded)
    reader.manifest(3)
    path = {
        "checkpoint": Layout(recorded).checkpoint,
        "tile": next((recorded / "log/tile/0/000.p").iterdir()),
        "bundle": next((recorded / "log/tile/entries/000.p").iterdir()),
        "segment": Layout(recorded).segment(3),
    }[what]
    path.unlink()
    proof = prove(reader, "3.1")
    assert not proof.verified
    assert not proof.checks[-1].ok
    assert proof.checks[-1].detail


def test_a_proof_is_made_from_what_is_on_disk_now(recorded: Path) -> None:
    reader = open_log(recorded)
    assert prove(reader, "3.1").verified
    blob = Layout(recorded).segment(3)
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    assert not prove(reader, "3.1").verified


def test_a_frame_can_be_proven_while_the_log_grows(recorded: Path) -> None:
    with growing(recorded, 5):
        assert prove(open_log(recorded), "3.1").verified


def test_a_segments_salts_are_drawn_once(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []
    real = Segment.salts

    def salts(self: Segment) -> bytes:
        drawn.append(real(self))
        return drawn[-1]

    monkeypatch.setattr(Segment, "salts", salts)
    proof = prove(open_log(recorded), "3.1")
    assert proof.verified
    assert [proof.salt] == [salts[32:64] for salts in drawn]


def test_what_was_never_recorded_cannot_be_proven(recorded: Path) -> None:
    reader = open_log(recorded)
    for ref in ("0.99", "99.0"):
        with pytest.raises(NotFoundError):
            prove(reader, ref)
    with pytest.raises(UsageError):
        prove(reader, "nonsense")


def test_a_stream_is_described_by_its_first_frame_however_far_back(recorded: Path) -> None:
    reader = open_log(recorded)
    stream = sealed(recorded)[0].stream
    assert stream_descriptor(reader, stream, 5) == {"source": "test", "session": "one"}
    assert stream_descriptor(reader, stream ^ 1, 5) == {}
