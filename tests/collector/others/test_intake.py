"""Records out of files and pipes: none lost, none made up, whose they are, and clean of credentials."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.collector.others.follow import read_file, read_pipe
from sandtrail.collector.others.intake import Binding
from sandtrail.collector.others.pieces import MAX_PIECES, MAX_RECORD, Lines, pieces_of
from sandtrail.errors import StoreError, UsageError
from tests.collector.gateway.harness import wait_for
from tests.collector.others.spooled import Spooled

KEY = "sk-ant-api03-0123456789abcdefghijABCDEFGHIJ"


@pytest.fixture
def spooled(tmp_path: Path) -> Iterator[Spooled]:
    found = Spooled(tmp_path / "home")
    yield found
    found.stop.set()


def test_a_record_is_of_the_session_that_its_field_names(spooled: Spooled, tmp_path: Path) -> None:
    flows = [{"flow": {"source": {"pod_name": name}}} for name in ("pod-a", "pod-b", "pod-a", "no/name", 5)]
    (tmp_path / "log").write_text("\n".join(map(json.dumps, flows)))
    intake = spooled.intake(by="source.pod_name")
    assert read_file(intake, tmp_path / "log", spooled.stop, follow=False) == "end of file"
    intake.close("end of file")
    frames, _ = spooled.read()
    assert {session: len(held) for session, held in frames.items()} == {"pod-a": 2, "pod-b": 1, "hubble": 2}


def test_credentials_are_gone_before_anything_is_written(spooled: Spooled, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(json.dumps({"path": f"/x?api_key={KEY}"}) + f"\nno json, and {KEY}\n")
    intake = spooled.intake("envoy")
    read_file(intake, tmp_path / "log", spooled.stop, follow=False)
    intake.close("end")
    assert intake.counts == {"records": 2, "malformed": 1, "cut": 0, "redacted": 2, "names_refused": 0}
    assert all(KEY.encode() not in path.read_bytes() for path in spooled.home.rglob("*") if path.is_file())
    assert [frame.get("malformed") for frame in spooled.read()[0]["envoy"]] == [None, True]


def test_a_file_that_is_rotated_loses_no_line(spooled: Spooled, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b'{"n": 0}\n{"n": ')
    intake = spooled.intake()
    reading = threading.Thread(target=read_file, args=(intake, log, spooled.stop), kwargs={"follow": True})
    reading.start()
    wait_for(lambda: len(spooled.records()) == 1, "the first line")
    with log.open("ab") as old:
        log.rename(tmp_path / "log.1")
        old.write(b"1}\n")
        old.flush()
        log.write_bytes(b'{"n": 2}\n')
        wait_for(lambda: len(spooled.records()) == 3, "the new file")
    spooled.stop.set()
    reading.join(30)
    assert [json.loads(record)["n"] for record in spooled.records()] == [0, 1, 2]


def test_a_file_that_is_cut_short_in_its_place_leaves_a_gap(spooled: Spooled, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b'{"n": 0}\n{"n": 1}\n')
    intake = spooled.intake()
    reading = threading.Thread(target=read_file, args=(intake, log, spooled.stop), kwargs={"follow": True})
    reading.start()
    wait_for(lambda: len(spooled.records()) == 2, "two lines")
    log.write_bytes(b'{"n": 2}\n')
    wait_for(lambda: len(spooled.records()) == 3, "the third line")
    spooled.stop.set()
    reading.join(30)
    assert [note["note"] for note in spooled.read()[1]] == ["gap"]


def test_a_pipe_is_read_to_its_end(spooled: Spooled) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b'{"a": 1}\n{"b": 2}')
    os.close(theirs)
    assert read_pipe(spooled.intake(), ours, spooled.stop) == "end of input"
    os.close(ours)
    assert spooled.records() == [b'{"a": 1}', b'{"b": 2}']


def test_a_line_that_is_too_long_is_kept_in_part_and_says_how_long_it_was() -> None:
    lines = Lines()
    size = MAX_RECORD + 10
    (piece,) = [*lines.feed(b"x" * size), *lines.feed(b"\n"), *lines.finish()]
    assert (len(piece.data), piece.size, piece.cut, piece.value) == (MAX_RECORD, size, True, None)


def test_an_object_that_is_printed_over_lines_is_one_record_among_others() -> None:
    record = {"call_type": "acompletion", "messages": [{"content": "a\nb"}], "none": {}}
    log = b"INFO: starting\n" + json.dumps(record, indent=4).encode() + b'\n{"message": "next"}\n{\nbroken\n'
    lines = Lines(spread=True)
    pieces = [piece for at in range(len(log)) for piece in lines.feed(log[at : at + 1])]
    assert [piece.value for piece in [*pieces, *lines.finish()]] == [None, record, {"message": "next"}, None, None]


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3), max_size=6))
def test_a_batch_is_its_objects_in_whatever_form_it_comes(objects: list[dict[str, Any]]) -> None:
    array, lines = json.dumps(objects), "\n".join(map(json.dumps, objects))
    for body in (array, lines):
        pieces = list(pieces_of(body.encode()))
        assert [piece.value for piece in pieces] == objects
        assert [json.loads(piece.data) for piece in pieces] == objects


@pytest.mark.parametrize("text", [b"1 " * 50_000, b"{}" * 50_000, b'{"a": 1} 2 ' * 5, b"[[{}, {}]"])
def test_a_text_of_very_many_records_or_of_none_does_not_become_as_many_frames(text: bytes) -> None:
    pieces = list(pieces_of(text))
    assert len(pieces) <= MAX_PIECES + 1
    assert pieces[-1].value is None
    kept = b"".join(piece.data for piece in pieces)
    assert b"".join(text.split()).endswith(b"".join(kept.split()))
    assert len(kept) > len(text) // 3


def test_a_line_of_text_is_one_record_also_where_it_begins_with_a_number() -> None:
    assert [piece.data for piece in pieces_of(b"2026-11-21 12:00:00 started")] == [b"2026-11-21 12:00:00 started"]


def test_a_session_is_named_once_and_well() -> None:
    with pytest.raises(UsageError, match="either"):
        Binding(session="a", by="b")
    with pytest.raises(UsageError, match="letters"):
        Binding(session="../a")


def test_who_chooses_names_cannot_make_sessions_without_end(
    spooled: Spooled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandtrail.collector.others.intake.MAX_NAMES", 3)
    (tmp_path / "log").write_text("\n".join(json.dumps({"user": f"u{n}"}) for n in (1, 2, 3, 4, 5, 1)))
    intake = spooled.intake("litellm", by="user")
    read_file(intake, tmp_path / "log", spooled.stop, follow=False)
    intake.close("end")
    assert {session: len(held) for session, held in spooled.read()[0].items()} == {
        "u1": 2,
        "u2": 1,
        "u3": 1,
        "litellm": 2,
    }
    assert intake.counts["names_refused"] == 2


def test_a_stream_that_was_silent_ends_and_more_begins_another(
    spooled: Spooled, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = spooled.intake()
    (piece,) = pieces_of(b'{"n": 0}')
    intake.take(piece, "file")
    intake.rest()
    intake.take(piece, "file")
    monkeypatch.setattr("sandtrail.collector.others.intake.IDLE_S", 0.0)
    intake.rest()
    intake.take(piece, "file")
    intake.close("end")
    assert spooled.streams() == [3, 2]


def test_a_disk_that_takes_nothing_does_not_keep_the_command_from_ending(spooled: Spooled, tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"n": 0}')
    intake = spooled.intake()

    def full(*_: Any, **__: Any) -> int:
        raise StoreError("no space left on device")

    intake._stream("hubble").stream.write = full  # type: ignore[method-assign]
    threading.Timer(0.1, spooled.stop.set).start()
    with pytest.raises(StoreError, match="no space"):
        read_file(intake, tmp_path / "log", spooled.stop, follow=False)
