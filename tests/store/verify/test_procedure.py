"""Nothing in a store can be changed without `verify` saying so, and naming the place."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from sandtrail.errors import NotFoundError, UsageError
from sandtrail.store import sealer as module
from sandtrail.store.heads import head_file, remember_head
from sandtrail.store.keys import load_signer, load_verifier
from sandtrail.store.layout import Layout
from sandtrail.store.log import Log, read_checkpoint
from sandtrail.store.merkle import EMPTY, leaf_hash
from sandtrail.store.note import Checkpoint, Signer
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from sandtrail.store.tiles import decode_bundle, encode_bundle
from sandtrail.store.verify import verify
from sandtrail.store.verify.report import Finding, Report
from tests.store.recording import killed, step_until_idle

SEGMENTS, FRAMES = 4, 10


def make_store(home: Path, heartbeats: int = 0) -> None:
    """Two runs, the first one killed; four segments; a torn record; as many heartbeats as asked for."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT"):
            patched.setattr(module, name, 0.0)
        writer = SpoolWriter(home, "source")
        stream = writer.open({"source": "test"})
        killed(lambda: step_until_idle(Sealer(home)))
        sealer = Sealer(home)
        for number in range(3):
            stream.write_many([b"frame %d" % number] * 3)
            step_until_idle(sealer)
        patched.setattr(module, "HEARTBEAT_EVERY", 0.0)
        patched.setattr(module, "CHECKPOINT_EVERY", 3600.0)
        patched.setattr(module, "CHECKPOINT_URGENT", 3600.0)
        for _ in range(heartbeats):
            sealer.step()
        writer.close()
        with writer.path.open("ab") as file:
            file.write(b"torn")
        sealer.stop()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store; never changed."""
    home = tmp_path_factory.mktemp("original") / "home"
    make_store(home)
    return home


@pytest.fixture(scope="module")
def large_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose log has full tiles and two levels; never changed."""
    home = tmp_path_factory.mktemp("large") / "home"
    make_store(home, heartbeats=600)
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return copy(original, tmp_path / "home")


@pytest.fixture
def large(large_original: Path, tmp_path: Path) -> Path:
    return copy(large_original, tmp_path / "large")


def copy(store: Path, to: Path) -> Path:
    shutil.copytree(store, to)
    return to


def evidence(home: Path) -> list[Path]:
    """Every file that `verify` vouches for: all but the private keys and the lock."""
    files = sorted(path for path in home.rglob("*") if path.is_file())
    return [path for path in files if path.name not in ("log.key", "lock") and path.parent.name != "epochs"]


def only(report: Report) -> Finding:
    assert len(report.findings) == 1, report.findings
    return report.findings[0]


def types(report: Report) -> set[str]:
    return {finding.type for finding in report.findings}


# -- good stores -------------------------------------------------------------------------------------------------------


def test_a_good_store_is_good(home: Path) -> None:
    report = verify(home)
    assert report.ok
    assert (report.segments, report.frames, report.gaps) == (SEGMENTS, FRAMES, 2)
    assert (report.unsealed_bytes, report.unsigned_files) == (0, 0)
    assert report.key_from == "beside the log, not pinned"
    assert report.as_dict()["ok"] is True
    assert {path.parent.name for path in evidence(home)} >= {"damaged", "keys", "log", "000000"}


def test_a_good_store_with_full_tiles_is_good(large: Path) -> None:
    report = verify(large)
    assert report.ok, report.findings
    assert report.size > 600
    assert (large / "log/tile/1/000.p/2").exists()


def test_an_empty_store_is_good(tmp_path: Path) -> None:
    Sealer(tmp_path / "home").stop()
    assert verify(tmp_path / "home").ok
    Log(tmp_path / "bare", load_signer(tmp_path / "bare")).close()
    assert verify(tmp_path / "bare").ok


def test_verify_changes_nothing(home: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    verify(home)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_what_is_not_sealed_yet_is_counted(home: Path) -> None:
    writer = SpoolWriter(home, "late")
    writer.open({})
    report = verify(home)
    assert (report.ok, report.unsealed_bytes) == (True, writer.size)


def test_a_store_is_good_while_it_is_recorded_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every state between two file operations of a sealer at work."""
    for name in ("SEGMENT_AGE", "URGENT_AGE", "CHECKPOINT_EVERY", "CHECKPOINT_URGENT"):
        monkeypatch.setattr(module, name, 0.0)
    home = tmp_path / "home"
    writer = SpoolWriter(home, "source")
    stream = writer.open({})
    sealer = Sealer(home)
    real, looks = Path.rename, 0

    def rename(path: Path, target: Path) -> Path:
        nonlocal looks
        for moment in ("before", "after"):
            report = verify(home)
            assert report.ok, (moment, target, report.findings)
            looks += 1
            if moment == "before":
                real(path, target)
        return target

    monkeypatch.setattr(Path, "rename", rename)
    for number in range(12):
        stream.write(b"%d" % number)
        step_until_idle(sealer)
    assert looks > 50
    monkeypatch.undo()
    sealer.stop()


# -- one changed byte --------------------------------------------------------------------------------------------------


def expected(home: Path, path: Path) -> tuple[set[str], str]:
    """(types, beginning of the place) of the finding that a change of this file must lead to."""
    place = path.relative_to(home)
    if place.parts[0] == "segments":
        return {"blob-damaged"}, f"segment {int(path.stem)}"
    if place.parts[0] == "damaged":
        return {"kept-damaged"}, str(path)
    if place.name == "log.vkey":
        return {"key-damaged"}, str(path)
    if place.parts[:2] == ("keys", "data"):
        return {"data-key-damaged", "kept-damaged"}, ""
    if place.name == "checkpoint":
        return {"checkpoint-unsigned", "epoch-unsigned"}, str(path)
    if place.parts[2] == "entries":
        return {"entry-changed", "bundle-damaged"}, ""
    return {"tile-damaged"}, f"{path}, byte "


def check_change(home: Path, path: Path, at: int, bit: int) -> None:
    data = path.read_bytes()
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    path.write_bytes(changed)
    report = verify(home)
    path.write_bytes(data)
    kinds, place = expected(home, path)
    found = [f for f in report.findings if f.type in kinds and f.place.startswith(place)]
    assert found, (path, at, bit, report.findings)
    if kinds == {"tile-damaged"}:
        assert only(report).place == f"{path}, byte {at}"
    if "entry-changed" in kinds:
        assert found[0].place.startswith("log entry ") or found[0].place == str(path)


def test_any_one_byte_of_any_file_is_found_and_named(home: Path) -> None:
    rng = random.Random(1)
    changes = 0
    for path in evidence(home):
        for at in range(path.stat().st_size):
            check_change(home, path, at, rng.randrange(8))
            changes += 1
    assert changes > 2000
    assert verify(home).ok


def test_any_one_byte_of_a_large_log_is_found_and_named(large: Path) -> None:
    rng = random.Random(2)
    for path in evidence(large):
        for at in rng.sample(range(path.stat().st_size), min(3, path.stat().st_size)):
            check_change(large, path, at, rng.randrange(8))
    assert verify(large).ok


def test_any_file_that_is_cut_emptied_or_longer_is_found(home: Path) -> None:
    for path in evidence(home):
        data = path.read_bytes()
        for changed in (data[:-1], b"", data + b"\0", data + data):
            path.write_bytes(changed)
            assert not verify(home).ok, (path, len(changed))
        path.write_bytes(data)


def test_any_file_that_is_missing_is_found_and_named(home: Path, large: Path) -> None:
    for store in (home, large):
        for path in evidence(store):
            data = path.read_bytes()
            path.unlink()
            report = verify(store)
            path.write_bytes(data)
            places = " ".join(finding.place for finding in report.findings)
            if path.parent.name == "data":
                assert types(report) == {"data-key-missing"}, report.findings
                continue
            name = f"segment {int(path.stem)}" if path.suffix == ".seg" else str(path)
            assert name in places, report.findings


def test_a_changed_entry_is_named_and_the_others_still_hold(large: Path) -> None:
    bundle = large / "log/tile/entries/001"
    entries = decode_bundle(bundle.read_bytes())
    entries[44] = entries[44].replace(b"heartbeat", b"heartbeet")
    bundle.write_bytes(encode_bundle(entries))
    report = verify(large)
    assert [(f.step, f.type, f.place) for f in report.findings] == [
        (4, "entry-changed", "log entry 300"),
    ]
    assert only(report).affected.entries == (300, 300)
    assert (report.segments, report.frames) == (SEGMENTS, FRAMES)


def test_entries_that_were_changed_together_with_their_tiles_are_found(home: Path) -> None:
    bundle = next((home / "log/tile/entries/000.p").iterdir())
    entries = decode_bundle(bundle.read_bytes())
    changed = entries[0].replace(b"boot", b"toob")
    bundle.write_bytes(encode_bundle([changed, *entries[1:]]))
    tile = home / "log/tile/0/000.p" / bundle.name
    tile.write_bytes(leaf_hash(changed) + tile.read_bytes()[32:])
    assert (4, "root-mismatch", str(home / "log")) in [(f.step, f.type, f.place) for f in verify(home).findings]


def test_a_bundle_that_cannot_be_read_costs_only_its_own_entries(large: Path) -> None:
    (large / "log/tile/entries/001").write_bytes(b"\xff")
    report = verify(large)
    assert only(report).type == "bundle-damaged"
    assert only(report).affected.entries == (256, 511)
    assert (report.segments, report.frames) == (SEGMENTS, FRAMES)


# -- whole files and states --------------------------------------------------------------------------------------------


def test_a_deleted_newest_segment_is_found(home: Path) -> None:
    Layout(home).segment(SEGMENTS - 1).unlink()
    finding = only(verify(home))
    assert (finding.step, finding.type, finding.place) == (8, "blob-missing", f"segment {SEGMENTS - 1}")
    assert "3 frames cannot be trusted" in finding.consequence
    assert (finding.affected.segments, finding.affected.frames) == ((SEGMENTS - 1, SEGMENTS - 1), 3)


def test_two_swapped_segments_are_found(home: Path) -> None:
    first, second = Layout(home).segment(1), Layout(home).segment(3)
    one, three = first.read_bytes(), second.read_bytes()
    first.write_bytes(three)
    second.write_bytes(one)
    report = verify(home)
    assert [(f.type, f.place) for f in report.findings] == [
        ("blob-damaged", "segment 1"),
        ("blob-damaged", "segment 3"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "log/extra",
        "log/tile/0/000",
        "log/tile/0/007",
        "log/tile/0/000.p/300",
        "log/tile/entries/000.p/1",
        "log/tile/9/000",
        "log/tile/99/000",
        "log/tile/x/000",
        "log/.hidden",
        "segments/000000/readme",
        "segments/000001/000000001.seg",
        "segments/000000/000000001.seg.old",
    ],
)
def test_a_file_that_nobody_signed_for_is_found(home: Path, name: str) -> None:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"extra")
    finding = only(verify(home))
    assert (finding.step, finding.type, finding.place) == (5, "file-unaccounted", str(path))


def test_what_a_killed_recorder_leaves_is_counted_and_is_no_finding(home: Path) -> None:
    (home / "log" / ".checkpoint.123.tmp").write_bytes(b"half a")
    (home / "segments" / "000000" / ".000000004.seg.123.tmp").write_bytes(b"half a")
    (home / "segments" / "000000" / "000000004.seg").write_bytes(b"written, and not signed yet")
    (home / "segments" / "000000" / "000000006.seg").write_bytes(b"left of a round that another sealer made anew")
    report = verify(home)
    assert (report.ok, report.unsigned_files) == (True, 4)


def cut_back(home: Path, older: Path) -> None:
    """Put an older copy of a store in its place, as whoever can write there may do."""
    shutil.rmtree(home)
    shutil.copytree(older, home)


@pytest.fixture
def grown(home: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A store, and a copy of it from before its last run."""
    older = copy(home, tmp_path / "older")
    SpoolWriter(home, "later").open({})
    Sealer(home).stop()
    return home, older


def test_only_a_remembered_head_shows_that_a_log_was_cut_back(grown: tuple[Path, Path]) -> None:
    home, older = grown
    size = verify(home).size
    head = remember_head(home)
    saved = head.read_bytes()
    assert verify(home).head == f"{size} entries"
    cut_back(home, older)
    finding = only(verify(home))
    assert (finding.step, finding.type) == (3, "rolled-back")
    assert finding.place == f"log entry {verify(older).size}"
    assert f"to {size - 1}" in finding.consequence
    head.unlink()
    assert verify(home).ok, "a state that the log had itself signed is good as long as nobody remembers a later one"
    elsewhere = home.parent / "kept.head"
    elsewhere.write_bytes(saved)
    assert types(verify(home, head=elsewhere)) == {"rolled-back"}


def test_a_log_that_has_grown_from_the_remembered_head_is_good(grown: tuple[Path, Path]) -> None:
    home, older = grown
    remember_head(older).rename(head_file(home))
    assert verify(home).ok


def test_a_log_that_was_cut_back_and_has_grown_again_is_found(grown: tuple[Path, Path]) -> None:
    home, older = grown
    remember_head(home)
    cut_back(home, older)
    for _ in range(3):
        Sealer(home).stop()
    assert [(f.step, f.type) for f in verify(home).findings] == [(3, "history-rewritten")]


def test_a_remembered_head_never_goes_back(grown: tuple[Path, Path]) -> None:
    home, older = grown
    head = remember_head(home)
    newest = head.read_bytes()
    cut_back(home, older)
    remember_head(home)
    assert head.read_bytes() == newest


def test_the_checkpoint_that_was_verified_is_remembered_and_not_a_later_one(home: Path) -> None:
    report = verify(home)
    Sealer(home).stop()
    assert remember_head(home, report.note).read_bytes().endswith(report.note)
    assert read_checkpoint(home / "log") != report.note


def resign(home: Path, key: bytes) -> None:
    """Replace the key and sign the whole log again with it, which leaves a log that is good in itself."""
    verifier = load_verifier(home)
    signer = Signer(verifier.name, key)
    checkpoint = open_log(home).checkpoint()
    Layout(home).checkpoint.write_bytes(signer.sign(checkpoint.body))
    Layout(home).vkey.write_text(f"{signer.verifier.vkey}\n")
    (home / "keys" / "log.key").write_bytes(key)


def test_a_replaced_key_is_found_by_whoever_knows_the_real_one(home: Path) -> None:
    vkey = load_verifier(home).vkey
    remembered = remember_head(home)
    resign(home, bytes(32))
    for report in (verify(home), verify(home, keys=[vkey])):
        assert [(f.step, f.type) for f in report.findings] == [(1, "key-replaced"), (2, "checkpoint-unsigned")]
        assert report.findings[0].place == str(Layout(home).vkey)
    remembered.unlink()
    report = verify(home)
    assert [(f.step, f.type, f.place) for f in report.findings] == [(7, "epoch-forged", "log entry 0")]
    assert report.key_from == "beside the log, not pinned"


def test_a_log_under_another_name_is_found(home: Path) -> None:
    vkey = load_verifier(home).vkey
    signer = Signer("somebody.else/log", (home / "keys" / "log.key").read_bytes())
    Layout(home).checkpoint.write_bytes(signer.sign(f"somebody.else/log\n{open_log(home).checkpoint().size}\nx\n"))
    assert types(verify(home, keys=[vkey])) == {"checkpoint-unsigned"}


def forge(home: Path, entries: list[bytes]) -> None:
    """A log that is well signed and says anything."""
    shutil.rmtree(home / "log")
    shutil.rmtree(home / "segments")
    log = Log(home, load_signer(home))
    for entry in entries:
        log.append(entry)
    log.publish()
    log.close()


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"garbage",
        b"\xa0",
        b"\xa2av\x01dkindgsegment",
        b"\xa3av\x01dkindgsegmentgsegment\x00",
        b"\xa3av\x01dkindgsegmentgsegmentc../",
        b"\xa3av\x01dkindgsegmentgsegment\x20",
        b"\xa4av\x01dkindgsegmentgsegment\x00gstreams\x01",
        b"\xa4av\x01dkindcgapdfilea/fsha256Cabc",
        b"\xa3av\x01dkindcgapespool\x01",
    ],
)
def test_a_signed_entry_of_any_shape_is_a_finding_and_never_an_exception(home: Path, entry: bytes) -> None:
    forge(home, [entry])
    report = verify(home)
    assert report.size == 1
    assert not report.ok or entry.endswith(b"\x01")


def test_segments_that_are_signed_in_another_order_are_found(home: Path) -> None:
    bundle = next((home / "log/tile/entries/000.p").iterdir())
    entries = decode_bundle(bundle.read_bytes())
    places = [i for i, entry in enumerate(entries) if b"gsegment" in entry and b"dkindgsegment" in entry]
    entries[places[1]], entries[places[2]] = entries[places[2]], entries[places[1]]
    segments = copy(home / "segments", home / "kept")
    forge(home, entries)
    shutil.copytree(segments, home / "segments", dirs_exist_ok=True)
    report = verify(home)
    assert {(f.step, f.type) for f in report.findings} >= {(6, "segments-out-of-order"), (10, "frames-missing")}


# -- what cannot be checked --------------------------------------------------------------------------------------------


def test_where_there_is_no_store_nothing_is_verified(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--home"):
        verify(tmp_path)


@pytest.mark.parametrize("key", ["", "nonsense", "name+00000000+AQ=="])
def test_a_malformed_key_is_refused(home: Path, key: str) -> None:
    with pytest.raises(UsageError):
        verify(home, keys=[key])


def test_a_head_that_is_none_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no remembered head"):
        verify(home, head=tmp_path / "none")
    for garbage in (b"", b"\n\n", b"\xff\n\nx", EMPTY):
        (tmp_path / "garbage").write_bytes(garbage)
        with pytest.raises(UsageError):
            verify(home, head=tmp_path / "garbage")


def test_a_log_without_a_signature_is_not_good(home: Path) -> None:
    checkpoint = open_log(home).checkpoint()
    Layout(home).checkpoint.write_text(checkpoint.body)
    assert types(verify(home)) == {"checkpoint-unsigned"}
    Layout(home).checkpoint.write_text(Checkpoint(checkpoint.origin, 0, EMPTY).body + "\n")
    assert types(verify(home)) == {"checkpoint-unsigned"}


def test_progress_counts_the_entries(home: Path) -> None:
    calls: list[tuple[int, int]] = []
    size = verify(home, progress=lambda done, of: calls.append((done, of))).size
    assert calls == [(size, size)]
