"""Many proofs in one file, each of which stands or falls by itself."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError, NotFoundError, UsageError
from sandtrail.store import proof_bundle as module
from sandtrail.store.frames import Ref
from sandtrail.store.keys import load_pins
from sandtrail.store.note import Signer
from sandtrail.store.proof_bundle import check_bundle, frames_of_session, is_bundle, write_bundle
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from tests.store.recording import sealed


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("bundle") / "home"
    writer = SpoolWriter(home, "source")
    for session in ("one", "two"):
        stream = writer.open({"source": "test", "session": session, "sandbox": f"{session}-pod"})
        stream.write_many([b"%d" % number for number in range(5)])
    writer.close()
    Sealer(home).stop()
    return home


def refs(home: Path) -> list[Ref]:
    return [Ref.parse(frame.ref) for frame in sealed(home)]


def test_all_frames_of_a_session_are_proven_in_one_file(home: Path, tmp_path: Path) -> None:
    wanted = frames_of_session(home, "one")
    assert len(wanted) == 6
    path = tmp_path / "one.zip"
    assert write_bundle(home, wanted, path) == 6
    assert is_bundle(path)
    judged = list(check_bundle(path, *load_pins(home)))
    assert [(one.proof and one.proof.ref, one.error) for one in judged] == [(ref, "") for ref in wanted]
    with zipfile.ZipFile(path) as bundle:
        assert bundle.read("log.vkey").decode() == (home / "keys/log.vkey").read_text()
        assert "prove" in bundle.read("README.txt").decode()


def test_a_session_that_is_not_there_or_too_large_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError):
        frames_of_session(home, "three")
    monkeypatch.setattr(module, "MAX_PROOFS", 5)
    with pytest.raises(UsageError, match="more than 5"):
        frames_of_session(home, "one")
    for wanted in ([], refs(home)[:6]):
        with pytest.raises(UsageError, match="1 to 5"):
            write_bundle(home, wanted, tmp_path / "x.zip")


def test_a_bundle_that_cannot_be_finished_is_not_left_behind(home: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        write_bundle(home, [Ref(0, 0), Ref(99, 0)], tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(path) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as bundle:
        for name, data in files.items():
            bundle.writestr(name, data)
    return path


def test_what_does_not_hold_is_named_and_the_others_still_do(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    write_bundle(home, refs(home), path)

    def change(files: dict[str, bytes]) -> None:
        names = sorted(name for name in files if name.startswith("proofs/"))
        files[names[0]], files[names[1]] = files[names[1]], files[names[0]]
        files[names[2]] = files[names[2]].replace(b"extra ", b"extra A")
        files["proofs/readme"] = b"hello"

    judged = {one.name: one for one in check_bundle(rewritten(path, change), *load_pins(home))}
    bad = sorted(name for name, one in judged.items() if one.proof is None)
    assert bad == ["proofs/0.0.tlog-proof", "proofs/0.1.tlog-proof", "proofs/0.2.tlog-proof", "proofs/readme"]
    assert len(judged) == len(refs(home)) + 1
    other = Signer(load_pins(home)[0].name, bytes(32)).verifier
    assert all(one.proof is None for one in check_bundle(path, other))


def test_a_bundle_of_nothing_of_twins_or_of_too_much_is_none(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = load_pins(home)[0]
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("README.txt", "x")
    with pytest.raises(DamagedError, match="has 0"):
        list(check_bundle(path, identity))
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("proofs/0.0.tlog-proof", "x")
        with pytest.warns(UserWarning, match="Duplicate"):
            bundle.writestr("proofs/0.0.tlog-proof", "y")
    with pytest.raises(DamagedError, match="each once"):
        list(check_bundle(path, identity))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("proofs/0.0.tlog-proof", bytes(5000))
    assert [one.proof for one in check_bundle(path, identity)] == [None]
    monkeypatch.setattr(module, "_MAX_TOTAL", 4000)
    with pytest.raises(DamagedError, match="larger"):
        list(check_bundle(path, identity))


@given(st.data())
def test_whatever_becomes_of_a_bundle_the_answer_is_ours(
    home: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("hostile") / "x.zip"
    write_bundle(home, refs(home)[:2], path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        judged = list(check_bundle(path, *load_pins(home)))
    except DamagedError:
        return
    for one in judged:
        if one.proof is not None:
            assert one.name == f"proofs/{one.proof.ref}.tlog-proof"
