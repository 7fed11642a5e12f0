"""The sealer: every frame exactly once whatever dies, and everything that is missing on record."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandtrail.store import layout, spool, tail
from sandtrail.store import sealer as module
from sandtrail.store.clocks import read_clocks
from sandtrail.store.kept import read_kept
from sandtrail.store.position import spools
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.segments import MAX_FRAMES, stored_segments
from sandtrail.store.spool import SpoolWriter, encode_record
from sandtrail.store.verify import verify
from tests.store.recording import entries, killed, kinds, payloads, sealed, step_until_idle


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments and checkpoints are due at every step, so that no test has to wait."""
    for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT"):
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(tail, "DAMAGED_AFTER", 0.0)


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%06d" % number for number in range(start, start + count)]


def test_what_is_in_the_spool_is_sealed_once_and_the_spool_is_removed(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    stream = writer.open({"source": "test"})
    sealer = Sealer(store)
    stream.write_many(numbered(10))
    step_until_idle(sealer)
    assert payloads(store) == numbered(10)
    assert spools(store) == [writer.path]
    stream.write_many(numbered(10, 10))
    stream.close("done")
    writer.close()
    sealer.stop()
    assert payloads(store) == numbered(20)
    assert spools(store) == []
    assert kinds(store) == ["start", "segment", "segment", "stop"]
    assert verify(store).ok


def test_a_sealer_that_is_killed_at_any_moment_seals_no_frame_twice_and_leaves_none_out(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    stream = writer.open({"source": "test"})
    for round_ in range(8):
        stream.write_many(numbered(5, round_ * 5))

        def seal(steps: int = round_) -> None:
            sealer = Sealer(store, run="one")
            for _ in range(steps):
                sealer.step()
                stream.write(b"more")

        killed(seal)
        # The child has written with its own copy of the stream: what it wrote counts here as well.
        stream.seq += round_
        writer.size = writer.path.stat().st_size
    Sealer(store, run="one").stop()
    writer.close()
    assert [p for p in payloads(store) if p != b"more"] == numbered(40)
    assert len(payloads(store)) == 40 + sum(range(8))
    assert kinds(store).count("gap") == 0
    assert verify(store).ok


class Crash(Exception):
    """The process dies here."""


@pytest.mark.parametrize("stored", [False, True], ids=["not-stored", "stored"])
def test_a_crash_at_any_file_that_is_published_costs_no_frame(
    store: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    real = layout.publish
    for step in range(30):
        home = store / str(step)
        writer = SpoolWriter(home, "source")
        stream = writer.open({"source": "test"})
        sealer = Sealer(home)
        stream.write_many(numbered(5))
        step_until_idle(sealer)
        stream.write_many(numbered(5, 5))
        left = [step]

        def publish(path: Path, data: bytes, *, mode: int = 0o600, left: list[int] = left) -> None:
            if not left[0] and not stored:
                raise Crash
            real(path, data, mode=mode)
            if not left[0]:
                raise Crash
            left[0] -= 1

        with monkeypatch.context() as patched:
            for name in ("log", "round", "kept", "datakeys", "epochs"):
                patched.setattr(f"sandtrail.store.{name}.publish", publish)
            try:
                step_until_idle(sealer)
                stream.write(b"last")
                writer.close()
                sealer.stop()
            except Crash:
                crashed = True
                sealer._log.close()
            else:
                crashed = False
        assert verify(home).ok, verify(home).findings
        writer.close()
        Sealer(home).stop()
        assert payloads(home) == [*numbered(10), b"last"][: len(payloads(home))]
        assert len(payloads(home)) >= 10
        assert spools(home) == []
        report = verify(home)
        assert (report.ok, report.unsigned_files) == (True, 0)
        if not crashed:
            assert step >= 8
            return
    pytest.fail("there are more steps than this test has tried")


def test_rotated_spools_are_sealed_in_their_order(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "ROTATE_AT", 500)
    writer = SpoolWriter(store, "source")
    stream = writer.open({"source": "test"})
    for payload in numbered(100):
        stream.write(payload)
    assert len(spools(store)) > 5
    sealer = Sealer(store)
    step_until_idle(sealer)
    assert payloads(store) == numbered(100)
    stream.write(b"last")
    writer.close()
    sealer.stop()
    assert payloads(store) == [*numbered(100), b"last"]
    assert spools(store) == []


def test_a_file_waits_for_the_one_before_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is still being written at the end of a file holds back the writer's next file, and nobody else."""
    monkeypatch.setattr(tail, "DAMAGED_AFTER", 3600.0)
    monkeypatch.setattr(spool, "ROTATE_AT", 300)
    writer = SpoolWriter(store, "source")
    stream = writer.open({}, stream=1)
    first, held = writer.path, os.dup(writer.fileno())
    whole = encode_record(2, 1, 1, (1, 1, 1), [b"slow" * 100])
    with first.open("ab") as file:
        file.write(whole[:50])
        file.flush()
        stream.seq = 2
        writer.size = 1000
        stream.write(b"next file")
        other = SpoolWriter(store, "another").open({})
        other.write(b"not held back")
        sealer = Sealer(store)
        step_until_idle(sealer)
        assert payloads(store) == [b"not held back"]
        file.write(whole[50:])
        file.flush()
        step_until_idle(sealer)
    os.close(held)
    assert payloads(store) == [b"not held back", b"slow" * 100, b"next file"]


def test_a_segment_is_closed_when_it_is_full(store: Path) -> None:
    stream = SpoolWriter(store, "source").open({})
    for _ in range(5):
        stream.write_many([b"x"] * 10_000)
    sealer = Sealer(store)
    step_until_idle(sealer)
    sealer.stop()
    counts = [fields["frames"] for kind, fields in entries(store) if kind == "segment"]
    assert sum(counts) == 50_001
    assert all(count < MAX_FRAMES + 10_000 for count in counts)
    assert len(counts) == 3


def test_blobs_that_a_killed_sealer_had_not_signed_for_do_not_outlive_its_successor(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had closed many small segments; its successor finds all of their frames at once and needs fewer."""
    writer = SpoolWriter(store, "source")
    stream = writer.open({})

    def seal_without_signing() -> None:
        sealer = Sealer(store)
        monkeypatch.setattr(module, "CHECKPOINT_EVERY", 3600.0)
        monkeypatch.setattr(module, "CHECKPOINT_URGENT", 3600.0)
        for payload in numbered(5):
            stream.write(payload)
            step_until_idle(sealer)

    killed(seal_without_signing)
    writer.close()
    assert verify(store).unsigned_files > 1
    Sealer(store).stop()
    report = verify(store)
    assert (report.ok, report.unsigned_files) == (True, 0)
    assert payloads(store) == numbered(5)
    assert sorted(stored_segments(store)) == [0]


def test_an_unclean_end_is_a_gap_from_the_last_sign_of_life_to_the_next_start(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    stream = writer.open({})
    before = time.time_ns()
    killed(lambda: step_until_idle(Sealer(store)))
    stream.write(b"received, and not sealed any more")
    writer.close()
    between = time.time_ns()
    Sealer(store).stop()
    assert kinds(store) == ["start", "segment", "segment", "gap", "start", "stop"]
    gap = next(fields for kind, fields in entries(store) if kind == "gap")
    last = sealed(store)[-1]
    assert before < gap["from"][0] == last.realtime_ns < between < gap["to"][0]
    assert gap["cause"] == "recorder ended without a stop"
    assert gap["from_boot"] == gap["boot"]
    assert payloads(store) == [b"received, and not sealed any more"]
    assert verify(store).gaps == 1


def test_an_end_before_the_first_signature_is_a_gap_as_well(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    writer.open({})
    writer.close()
    Sealer(store).stop()
    assert kinds(store) == ["segment", "gap", "start", "stop"]


def test_a_stop_is_no_gap_and_neither_is_a_sealer_that_is_started_again_in_its_run(store: Path) -> None:
    Sealer(store).stop()
    Sealer(store).stop()
    killed(lambda: Sealer(store, run="one"))
    killed(lambda: Sealer(store, run="one"))
    assert kinds(store) == ["start", "stop"] * 2 + ["start"] * 2
    assert [fields["first"] for kind, fields in entries(store) if kind == "start"] == [True, True, True, False]
    Sealer(store, run="two").stop()
    assert kinds(store)[6:] == ["gap", "start", "stop"]


def test_what_a_living_writer_adds_does_not_shorten_the_gap(store: Path) -> None:
    killed(lambda: step_until_idle(Sealer(store)))
    after = time.time_ns()
    living = SpoolWriter(store, "living")
    living.open({}).write(b"after the end")
    Sealer(store).stop()
    gap = next(fields for kind, fields in entries(store) if kind == "gap")
    assert gap["from"][0] < after
    assert kinds(store) == ["start", "gap", "start", "segment", "stop"]
    living.close()


@pytest.mark.parametrize("length", [1, 30, 60, 63, 64, 70])
def test_a_torn_record_is_a_gap_and_its_bytes_are_kept(store: Path, length: int) -> None:
    writer = SpoolWriter(store, "source")
    stream = writer.open({})
    stream.write(b"whole")
    size = writer.size
    stream.write(b"torn in the middle")
    writer.close()
    with writer.path.open("r+b") as file:
        file.truncate(size + length)
    torn = writer.path.read_bytes()[size:]
    Sealer(store).stop()
    assert payloads(store) == [b"whole"]
    gap = next(fields for kind, fields in entries(store) if kind == "gap")
    assert (gap["file"], gap["offset"], gap["bytes"]) == (writer.path.name, size, length)
    assert gap["cause"] == "damaged or torn spool record"
    assert read_kept(store, gap) == torn
    assert spools(store) == []
    assert verify(store).ok


@pytest.mark.parametrize("living", [False, True], ids=["writer-gone", "writer-living"])
def test_a_damaged_record_costs_only_itself(store: Path, living: bool) -> None:
    writer = SpoolWriter(store, "source")
    damaged = writer.open({}, stream=1)
    damaged.write(b"good")
    at = writer.size
    damaged.write(b"will be damaged")
    end = writer.size
    whole = writer.open({}, stream=2)
    whole.write_many(numbered(3))
    with writer.path.open("r+b") as file:
        file.seek(at + 70)
        file.write(b"\xff")
    if not living:
        writer.close()
    sealer = Sealer(store)
    step_until_idle(sealer)
    if living:
        whole.write(b"later")
    writer.close()
    sealer.stop()
    assert payloads(store) == [b"good", *numbered(3), *([b"later"] if living else [])]
    gap = next(fields for kind, fields in entries(store) if kind == "gap" and "file" in fields)
    assert (gap["offset"], gap["bytes"]) == (at, end - at)
    assert spools(store) == []


def test_a_gap_is_recorded_once_even_if_the_sealer_dies_right_after(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    writer.open({})
    writer.close()
    with writer.path.open("ab") as file:
        file.write(b"torn")
    killed(lambda: Sealer(store, run="one"))
    killed(lambda: Sealer(store, run="one"))
    Sealer(store, run="one").stop()
    assert len([fields for kind, fields in entries(store) if kind == "gap" and "file" in fields]) == 1
    assert spools(store) == []


def test_a_record_that_is_being_written_slowly_is_waited_for(store: Path) -> None:
    writer = SpoolWriter(store, "source")
    writer.open({}, stream=1)
    whole = encode_record(2, 1, 1, (1, 1, 1), [bytes(5000)])
    sealer = Sealer(store)
    with writer.path.open("ab", buffering=0) as file:
        for at in range(0, len(whole), 500):
            file.write(whole[at : at + 500])
            step_until_idle(sealer)
    step_until_idle(sealer)
    assert payloads(store) == [bytes(5000)]
    assert "gap" not in kinds(store)


@pytest.mark.parametrize("garbage", [b"x", b"STr1" * 50, bytes(5000), os.urandom(5000)])
def test_a_spool_of_garbage_is_kept_and_recorded(store: Path, garbage: bytes) -> None:
    writer = SpoolWriter(store, "source")
    writer.path.write_bytes(garbage)
    writer.close()
    Sealer(store).stop()
    gap = next(fields for kind, fields in entries(store) if "file" in fields)
    assert (gap["bytes"], read_kept(store, gap)) == (len(garbage), garbage)
    assert verify(store).ok


def test_an_idle_recorder_says_that_it_lives(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealer = Sealer(store)
    sealer.step()
    assert kinds(store) == ["start"]
    monkeypatch.setattr(module, "HEARTBEAT_EVERY", 0.0)
    before = time.time_ns()
    sealer.step()
    sealer.step()
    assert kinds(store) == ["start", "heartbeat", "heartbeat"]
    at = entries(store)[-1][1]["at"]
    assert before < at[0] <= time.time_ns()
    assert at[2] <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    sealer.stop()


def test_an_urgent_frame_is_signed_sooner(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_AGE", 3600.0)
    monkeypatch.setattr(module, "CHECKPOINT_EVERY", 3600.0)
    writer = SpoolWriter(store, "source")
    stream = writer.open({})
    sealer = Sealer(store)
    step_until_idle(sealer)
    signed = len(sealed(store))
    stream.write(b"not urgent")
    step_until_idle(sealer)
    assert len(sealed(store)) == signed
    stream.write(b"urgent", urgent=True)
    step_until_idle(sealer)
    sealer.step()
    assert payloads(store) == [b"not urgent", b"urgent"]
    sealer.stop()


def test_leaving_signs_what_is_whole_and_leaves_the_rest_to_the_next_run(store: Path) -> None:
    sealer = Sealer(store)
    writer = SpoolWriter(store, "source")
    writer.open({}).write(b"whole")
    writer.close()
    with writer.path.open("ab") as file:
        file.write(b"the receiver's successor sees to this")
    sealer.leave()
    assert payloads(store) == [b"whole"]
    assert kinds(store) == ["start", "segment"]
    assert spools(store) == [writer.path]
    Sealer(store).stop()
    assert kinds(store)[2:] == ["gap", "gap", "start", "stop"]
    assert spools(store) == []


def test_a_sealer_process_stops_when_told_and_only_leaves_when_its_keeper_is_gone(store: Path) -> None:
    def run(last_word: bytes) -> str:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = [sys.executable, "-m", "sandtrail.store.sealer", "--home", str(store)]
            fd = theirs.fileno()
            process = subprocess.Popen([*command, "--control-fd", str(fd)], pass_fds=[fd])
            theirs.close()
            deadline = time.monotonic() + 20
            while not (store / "log" / "checkpoint").exists() or not open_log(store).size():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.05)
            if last_word:
                ours.send(last_word)
            ours.close()
            assert process.wait(20) == 0
        return kinds(store)[-1]

    assert run(b'{"op":"stop"}') == "stop"
    assert run(b"") == "start"


def test_a_clock_that_was_set_is_on_the_record(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealer = Sealer(store)
    sealer.step()
    real = read_clocks
    monkeypatch.setattr(module, "DUTY_EVERY", 0.0)
    monkeypatch.setattr(module, "read_clocks", lambda: real()._replace(realtime_ns=real().realtime_ns - 7_200 * 10**9))
    while "clock" not in kinds(store):
        sealer.step()
    monkeypatch.undo()
    sealer.stop()
    clock = next(fields for kind, fields in entries(store) if kind == "clock")
    assert abs(clock["step_ns"] + 7_200 * 10**9) < 10**9
    assert clock["suspended_ns"] == 0 or abs(clock["suspended_ns"]) < 10**9
