"""Segments are checked by several processes at once, and a process that dies costs nothing but time."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from sandtrail.errors import StoreError
from sandtrail.store.layout import Layout
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from sandtrail.store.verify import Mode, verify
from sandtrail.store.verify import work as module
from sandtrail.store.verify.work import Work
from tests.store.recording import entries, step_until_idle

SEGMENTS = 12


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("work") / "home"
    writer = SpoolWriter(home, "source")
    stream = writer.open({"source": "test", "sandbox": "box", "session": "one"})
    sealer = Sealer(home)
    for number in range(SEGMENTS):
        stream.write_many([b"%d" % number] * (number + 1))
        step_until_idle(sealer)
        sealer.settle()
    writer.close()
    sealer.stop()
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every segment is a batch of its own, and none is done here."""
    monkeypatch.setattr(module, "_HERE", 0)
    monkeypatch.setattr(module, "_BATCH", 1)


def manifests(home: Path) -> list[dict[str, object]]:
    return [fields for kind, fields in entries(home) if kind == "segment"]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("mode", ["full", "stored"])
def test_several_at_once_find_what_one_finds(home: Path, mode: Mode) -> None:
    assert len(manifests(home)) >= SEGMENTS
    layout = Layout(home)
    alone, together = verify(home, mode=mode, jobs=1), verify(home, mode=mode, jobs=3)
    assert alone.ok
    assert together.as_dict() == alone.as_dict()
    blob = layout.segment(3)
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    layout.segment(7).unlink()
    alone, together = verify(home, mode=mode, jobs=1), verify(home, mode=mode, jobs=3)
    found = {(finding.type, finding.place) for finding in alone.findings}
    assert found == {("blob-damaged", "segment 3"), ("blob-missing", "segment 7")}
    assert {(finding.type, finding.place) for finding in together.findings} == found
    assert together.frames == alone.frames


def test_a_finding_says_whose_frames_are_lost(home: Path) -> None:
    blob = Layout(home).segment(3)
    manifest = manifests(home)[3]
    raw = blob.read_bytes()
    blob.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    (finding,) = verify(home).findings
    assert finding.affected.frames == manifest["frames"]
    assert list(finding.affected.streams) == list(manifest["streams"])  # type: ignore[call-overload]
    for path in Layout(home).data_keys.iterdir():
        path.write_bytes(b"?")
    assert "data-key-damaged" in {found.type for found in verify(home).findings}


def test_a_helper_that_is_killed_is_replaced(home: Path) -> None:
    helper = module._Helper(home)
    batch = manifests(home)
    try:
        first = helper.ask(batch)
        os.kill(helper._process.pid, signal.SIGKILL)
        assert helper.ask(batch) == first
        assert [outcome.kind for outcome in first] == [""] * len(batch)
    finally:
        helper.stop()


@pytest.mark.usefixtures("at_once")
def test_helpers_that_keep_dying_end_the_verification_with_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module._Helper.__init__

    def dying(helper: module._Helper, home: Path) -> None:
        real(helper, home)
        os.kill(helper._process.pid, signal.SIGKILL)
        helper._command = [sys.executable, "-c", "import os; os._exit(9)"]

    monkeypatch.setattr(module._Helper, "__init__", dying)
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"3 helpers in a row have died .* segments \d+ to \d+.* --jobs 1"):
        verify(home, jobs=2)
    assert time.monotonic() - begun < 60
    assert verify(home, jobs=1).ok


@pytest.mark.usefixtures("at_once")
def test_whoever_stops_in_the_middle_leaves_no_helper_behind(home: Path) -> None:
    batch = manifests(home)
    with pytest.raises(KeyboardInterrupt), Work(home, deep=True, jobs=2) as work:
        for manifest in batch:
            list(work.add(0, manifest))
        raise KeyboardInterrupt
    assert not any(thread.is_alive() for thread in work._threads)


def test_a_helper_takes_no_module_from_the_folder_that_it_stands_in(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sandtrail").mkdir()
    (tmp_path / "sandtrail" / "__init__.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    helper = module._Helper(home)
    try:
        assert len(helper.ask(manifests(home))) == len(manifests(home))
    finally:
        helper.stop()
