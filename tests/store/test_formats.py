"""Stores that earlier releases wrote stay readable, verifiable and usable; see formats/README.md."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sandtrail.replay.follow import catch_up
from sandtrail.store.evidence import prove
from sandtrail.store.keys import load_pins
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from sandtrail.store.verify import verify
from tests.store.formats.record import record
from tests.store.recording import entries, sealed

FORMATS = Path(__file__).with_name("formats")
TOLD = [b'{"act":"exec","n":%d}' % number for number in range(20)]


@pytest.fixture(params=sorted(path.name for path in FORMATS.iterdir() if path.name.isdigit()))
def old(request: pytest.FixtureRequest, store: Path) -> Path:
    shutil.copytree(FORMATS / request.param, store)
    for path in (store / "keys").rglob("*.key"):
        path.chmod(0o600)
    return store


@pytest.fixture
def specimen(old: Path) -> list[bytes]:
    return [frame.payload for frame in sealed(old) if frame.kind == 2]


def test_every_format_has_its_specimen() -> None:
    assert sorted(path.name for path in FORMATS.iterdir() if path.name.isdigit()) == ["1", "2"]


def test_it_verifies_and_can_be_read_and_proven(old: Path, specimen: list[bytes]) -> None:
    report = verify(old)
    assert report.ok, report.findings
    assert specimen == [*TOLD, b"a", b"", b"\xff\x00" * 300]
    for frame in sealed(old):
        assert prove(open_log(old), frame.ref).verified


def test_a_changed_byte_in_it_is_found(old: Path) -> None:
    blob = next(old.rglob("*.seg"))
    data = blob.read_bytes()
    blob.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    assert not verify(old).ok


def test_it_goes_on_in_the_present_format(old: Path, specimen: list[bytes]) -> None:
    identity = load_pins(old)[0]
    writer = SpoolWriter(old, "new")
    writer.open({"source": "lifecycle", "session": "new", "sandbox": "new-pod"}).write(b"new")
    writer.close()
    Sealer(old).stop()
    assert [frame.payload for frame in sealed(old) if frame.kind == 2] == [*specimen, b"new"]
    pins = load_pins(old)
    assert pins[0] == identity
    assert pins[1] is not None
    assert entries(old)[-1][1]["v"] == 2
    report = verify(old)
    assert report.ok, report.findings


def test_replay_indexes_it(old: Path, specimen: list[bytes]) -> None:
    catch_up(old)
    assert verify(old).ok


def test_the_script_records_what_is_kept_of_the_present_format(store: Path) -> None:
    record(store)
    homes = (store, FORMATS / "2")
    folders = [
        sorted(str(path.parent.relative_to(home)) for path in home.rglob("*") if path.is_file()) for home in homes
    ]
    told = [[(kind, sorted(fields)) for kind, fields in entries(home) if kind != "segment"] for home in homes]
    assert folders[0] == folders[1]
    assert told[0] == told[1]
