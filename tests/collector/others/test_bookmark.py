"""A reading of a file that is started again goes on where the record ends: no line is lost, none is told twice,
wherever it was killed, and whatever became of the file meanwhile."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.others import bookmark
from sandtrail.collector.others.bookmark import Bookmark, Place
from sandtrail.collector.others.follow import read_file
from sandtrail.collector.others.intake import Binding, Intake
from sandtrail.collector.others.pieces import Lines
from sandtrail.collector.others.sources import source_named
from sandtrail.errors import StoreError, UsageError
from sandtrail.store.frames import Kind
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from tests.collector.recorder import wait_for
from tests.store.recording import killed, sealed


def read(home: Path, log: Path, source: str = "envoy", *, again: bool = False, **binding: str) -> None:
    """All of the file, by a reader of its own; sealed when it returns."""
    intake = Intake(home, source_named(source), Binding(**binding))
    read_file(intake, log, threading.Event(), follow=False, again=again)
    intake.close("end")
    Sealer(home).stop()


def records(home: Path) -> list[bytes]:
    """What is on record, in its order."""
    told = [frame.payload for frame in sealed(home) if frame.kind == Kind.DATA and b'"via"' in frame.payload]
    return [base64.b64decode(json.loads(payload)["data"]) for payload in told]


def causes(home: Path) -> list[str]:
    notes = [cbor2.loads(frame.payload) for frame in sealed(home) if frame.kind == Kind.NOTE]
    return [note["cause"] for note in notes if note["note"] == "gap"]


def lines(*numbers: int) -> bytes:
    return b"".join(b'{"n": %d, "of": "s%d"}\n' % (n, n % 3) for n in numbers)


def numbers(home: Path) -> list[int]:
    return [json.loads(record)["n"] for record in records(home)]


def test_a_file_that_has_grown_is_read_from_where_it_ended(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for more in (lines(0, 1), b"", lines(2), b'\n\n{"n": 3}', b'\n{"n": 4}\n'):
        with log.open("ab") as file:
            file.write(more)
        read(home, log)
    assert numbers(home) == [0, 1, 2, 3, 4]
    assert causes(home) == []


def test_another_binding_is_another_reading_and_all_of_it_may_be_asked_for_again(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(lines(0, 1))
    read(home, log)
    read(home, log, session="mine")
    read(home, log, again=True)
    assert numbers(home) == [0, 1] * 3
    read(home, log)
    assert len(numbers(home)) == 6


class _Killer:
    """Ends this process, without a word, at its n-th write to the spool: before, in the middle of it, or behind it."""

    def __init__(self, at: int, how: str) -> None:
        self.left, self.how = at, how
        self.real = SpoolWriter.append_here

    def append_here(self, spool: SpoolWriter, record: bytes) -> None:
        self.left -= 1
        if self.left < 0 and self.how != "behind":
            os.write(spool.fileno(), record[: len(record) // 2] if self.how == "torn" else b"")
            os.kill(os.getpid(), signal.SIGKILL)
        self.real(spool, record)
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("how", ["before", "torn", "behind"])
def test_a_reader_that_is_killed_at_any_write_has_told_each_line_once(tmp_path: Path, how: str) -> None:
    log = tmp_path / "log"
    several = b'[{"n": 5}, {"n": 6}, {"n": 7}]\n'
    log.write_bytes(lines(0, 1, 2) + b"\n" + lines(3, 4) + several + lines(8))
    home = tmp_path / "home"

    def dying(at: int) -> Callable[[], None]:
        def act() -> None:
            killer = _Killer(at, how)
            SpoolWriter.append_here = lambda spool, record: killer.append_here(spool, record)  # type: ignore[assignment, method-assign]
            intake = Intake(home, source_named("envoy"), Binding(by="of"))
            read_file(intake, log, threading.Event(), follow=False)
            intake.close("end")

        return act

    # Each run gets a little further: at most four streams are opened, and then one record more is told.
    done, told = 0, -1
    while told < 9:
        killed(dying(done % 7))
        Sealer(home).stop()
        done, told = done + 1, len(records(home))
        assert done < 60
    read(home, log, by="of")
    assert sorted(numbers(home)) == list(range(9))
    assert causes(home) == []


def test_a_file_that_was_rotated_meanwhile_is_read_to_its_end_first(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(lines(0, 1))
    read(home, log)
    with log.open("ab") as file:
        file.write(lines(2))
    log.rename(tmp_path / "log.1")
    log.write_bytes(lines(3))
    intake = Intake(home, source_named("envoy"), Binding())
    stop = threading.Event()
    reading = threading.Thread(target=read_file, args=(intake, log, stop), kwargs={"follow": True})
    reading.start()
    wait_for(lambda: intake.counts["records"] == 2, 60)
    stop.set()
    reading.join(60)
    intake.close("stopped")
    Sealer(home).stop()
    assert numbers(home) == [0, 1, 2, 3]
    assert causes(home) == []


@pytest.mark.parametrize("how", ["cut short", "cut short and longer again", "gone", "rotated twice"])
def test_what_cannot_be_read_any_more_is_a_gap(home: Path, tmp_path: Path, how: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(lines(0, 1))
    read(home, log)
    if how == "gone":
        log.unlink()
    elif how == "rotated twice":
        log.rename(tmp_path / "log.2")
        time.sleep(0.02)  # the file system's clock is a coarse one
        (tmp_path / "log.1").write_bytes(lines(9))
    log.write_bytes(lines(2, 3, 4, 5) if how == "cut short and longer again" else lines(2))
    read(home, log)
    (cause,) = causes(home)
    if how == "rotated twice":
        assert cause.endswith("; 1 were not read")
        return
    assert cause.startswith("the file that was read before is gone, or was cut short")
    assert numbers(home) == [0, 1, 2, 3, 4, 5][: 6 if "longer" in how else 3]


def test_only_one_reads_a_file(home: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"")
    one, other = (Intake(home, source_named("envoy"), Binding()) for _ in range(2))
    held = Bookmark(one, log)
    with pytest.raises(UsageError, match="another `sandtrail ingest`"):
        read_file(other, log, threading.Event(), follow=False)
    held.close()
    read_file(other, log, threading.Event(), follow=False)


def test_the_bookmark_follows_what_is_sealed_and_names_nobody(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookmark, "EVERY_S", 0.0)
    log = tmp_path / "secret-log"
    log.write_bytes(lines(0, 1))
    intake = Intake(home, source_named("envoy"), Binding(session="somebody"))
    mark = Bookmark(intake, log)
    first = Place(0, 7, 0, 0, 0, "")
    mark.begin(first)
    (path,) = (home / "ingest").glob("*.json")
    intake.write("somebody", "file", b"x", 1, cut=False, redacted=0)
    for n in (1, 2):
        mark.look(Place(0, 7, 0, n, 0, "f"))
        assert json.loads(path.read_text())["place"] == list(first), "nothing of it is sealed"
    Sealer(home).stop()
    for n in (3, 4):
        mark.look(Place(0, 7, 0, n, 0, "f"))
    assert json.loads(path.read_text())["place"][3] == 3, "the last that is sealed"
    assert not any(word in path.read_text() + path.name for word in ("secret", "somebody", str(tmp_path)))
    mark.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"place": [1], "run": "", "since": 0}', '{"place": 0}'])
def test_a_bookmark_that_is_none_is_as_if_there_were_none(home: Path, tmp_path: Path, text: str) -> None:
    log = tmp_path / "log"
    log.write_bytes(lines(0))
    read(home, log)
    (path,) = (home / "ingest").glob("*.json")
    path.write_text(text)
    read(home, log)
    assert numbers(home) == [0, 0]


@given(
    st.lists(st.sampled_from([b"{}", b"{", b"}", b" x", b"", b"1", b'[{"a":1},{}]', b"text"]), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_a_unit_by_itself_is_cut_into_the_same_records(parts: list[bytes], spread: bool, ended: bool) -> None:
    text = b"\n".join(parts) + (b"\n" if ended else b"")
    whole = Lines(spread=spread)
    found: dict[tuple[int, int], list[bytes]] = {}
    for feed in (whole.feed(text), whole.finish()):
        for piece in feed:
            found.setdefault(whole.unit, []).append(piece.data)
    assert list(found) == sorted(found)
    for (start, end), pieces in found.items():
        alone = Lines(spread=spread, at=start)
        assert [p.data for p in [*alone.feed(text[start:end]), *alone.finish()]] == pieces


def test_the_real_command_that_is_killed_again_and_again_while_its_log_is_rotated(home: Path, tmp_path: Path) -> None:
    log, written = tmp_path / "log", 0
    log.write_bytes(b"")
    command = [sys.executable, "-m", "sandtrail", "ingest", "envoy", "--file", str(log), "--follow", "--by", "of"]

    def write(many: int) -> None:
        nonlocal written
        with log.open("ab") as file:
            for _ in range(many):
                file.write(lines(written))
                file.flush()
                written += 1

    def told() -> list[int]:
        try:
            return numbers(home)
        except StoreError:  # the log is being written
            return []

    for number in range(3):
        process = subprocess.Popen([*command, "--home", str(home)], stderr=subprocess.DEVNULL)
        write(100)
        wait_for(lambda: len(told()) == written, 60)
        write(300)
        if number:
            log.rename(tmp_path / f"log.{number}")
            write(300)
        process.kill()
        process.wait()
        write(50)
    process = subprocess.Popen([*command, "--home", str(home)], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(told()) >= written, 60)
    process.terminate()
    assert process.wait(60) == 0
    assert sorted(told()) == list(range(written))
    assert causes(home) == []
