"""What a signed reason excuses and what it does not: erasure, retention, holds, epochs, witnesses, modes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cbor2
import pytest

from sandtrail.errors import StoreError, UsageError
from sandtrail.store.acts import order
from sandtrail.store.cosignature import Ed25519Cosigner
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.frames import stamp
from sandtrail.store.keys import load_pins, load_signer, load_verifier
from sandtrail.store.layout import Layout
from sandtrail.store.log import Log
from sandtrail.store.note import Checkpoint, Signer, parse_note
from sandtrail.store.policy import parse_policy
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from sandtrail.store.tiles import decode_bundle, encode_bundle
from sandtrail.store.verify import verify
from tests.store.verify.test_procedure import make_store, only, types


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store; never changed."""
    home = tmp_path_factory.mktemp("reasons") / "home"
    make_store(home)
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


# -- erasure, retention, keys of data ----------------------------------------------------------------------------------


def act(name: str, **fields: Any) -> dict[str, Any]:
    return {"act": name, "by": "test", **fields}


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Two sandboxes' segments, and the keys that they are under."""
    home = tmp_path / "boxes"
    writer = SpoolWriter(home, "source")
    for session in ("one", "two"):
        writer.open({"source": "test", "session": session, "sandbox": f"{session}-pod"}).write(
            b"secret of " + session.encode()
        )
    writer.close()
    Sealer(home).stop()
    return home


def key_of(home: Path, session: str) -> bytes:
    (key,) = DataKeys(home).of_session(session)
    return key.id


def test_an_erasure_is_good_and_a_lost_key_is_not(boxes: Path) -> None:
    key = key_of(boxes, "one")
    path = Layout(boxes).data_keys / f"{key.hex()}.key"
    kept = path.read_bytes()
    path.unlink()
    finding = only(verify(boxes))
    assert (finding.step, finding.type) == (9, "data-key-missing")
    assert finding.affected.frames == 2
    assert verify(boxes, mode="stored").ok
    path.write_bytes(kept)
    order(boxes, act("erase", keys=[key], reason="asked for"))
    report = verify(boxes)
    assert (report.ok, report.erased, report.frames) == (True, 1, 2)
    blob = Layout(boxes).segment(0)
    blob.write_bytes(blob.read_bytes() + b"?")
    assert types(verify(boxes)) == {"blob-damaged"}, "an erased segment is still held against its digest"


def test_an_erasure_that_was_signed_and_not_done_is_found(boxes: Path) -> None:
    key = key_of(boxes, "one")
    path = Layout(boxes).data_keys / f"{key.hex()}.key"
    kept = path.read_bytes()
    order(boxes, act("erase", keys=[key], reason="asked for"))
    path.write_bytes(kept)
    finding = only(verify(boxes))
    assert (finding.step, finding.type, finding.place) == (9, "erasure-undone", str(path))
    assert not finding.affected.as_dict()
    waiting = Layout(boxes).acts / "1.order"
    for order_ in ({"act": "erase", "keys": [bytes(16)]}, {"act": "hold", "keys": [key]}, {}, 5):
        waiting.write_bytes(cbor2.dumps(order_))
        assert types(verify(boxes)) == {"erasure-undone"}
    waiting.write_bytes(cbor2.dumps({"act": "erase", "keys": [key]}))
    report = verify(boxes)
    assert report.ok
    assert any("the order waits" in remark for remark in report.remarks)


def test_retention_is_good_and_a_lost_blob_is_not(boxes: Path) -> None:
    blob = Layout(boxes).segment(1)
    kept = blob.read_bytes()
    blob.unlink()
    assert only(verify(boxes)).type == "blob-missing"
    blob.write_bytes(kept)
    order(boxes, act("hold", keys=[key_of(boxes, "one")], on=True, case="c"))
    order(boxes, act("retain", before=1 << 62, reason="age"))
    report = verify(boxes)
    assert (report.ok, report.retained) == (True, 1)
    Layout(boxes).segment(0).unlink()
    assert (only(verify(boxes)).type, only(verify(boxes)).place) == ("blob-missing", "segment 0")


@pytest.mark.parametrize("first", [1, 2])
def test_what_was_held_is_neither_erased_nor_removed(boxes: Path, first: int) -> None:
    """By whoever writes the log without asking us."""
    key = key_of(boxes, "one")
    sealer = Sealer(boxes)
    at = list(stamp())
    sealer.record("hold", at=at, keys=[key], on=True, case="case 5", by="court")
    if first == 1:
        sealer.record("retain", at=at, segments=[[0, 1]], before=5, reason="age", by="test")
        place = sealer.reader.size() - 1
    else:
        place = sealer.record("erase", at=at, keys=[key], reason="asked for", by="test")
        sealer.keys.destroy(key)
    sealer.stop()
    finding = only(verify(boxes))
    assert (finding.step, finding.type, finding.place) == (6, "hold-broken", f"log entry {place}")


# -- epochs ------------------------------------------------------------------------------------------------------------


def test_both_keys_may_be_given_and_the_first_epoch_is_then_pinned(boxes: Path) -> None:
    identity, epoch = load_pins(boxes)
    assert epoch is not None
    order(boxes, {"act": "epoch"})
    report = verify(boxes, keys=[identity.vkey, epoch.vkey])
    assert (report.ok, report.epoch, report.remarks) == (True, 1, [])
    assert verify(boxes, keys=[epoch.vkey, identity.vkey]).ok
    other = Signer(epoch.name, bytes(32)).verifier
    report = verify(boxes, keys=[identity.vkey, other.vkey])
    assert {(f.step, f.type) for f in report.findings} == {(1, "key-replaced"), (7, "epoch-forged")}
    for wrong in ([epoch.vkey, other.vkey], [identity.vkey, Signer("x/epoch", bytes(32)).verifier.vkey]):
        with pytest.raises(UsageError):
            verify(boxes, keys=wrong)


def strip(home: Path, which: int) -> None:
    """Take a signature line from the checkpoint."""
    lines = Layout(home).checkpoint.read_bytes().split(b"\n")
    del lines[4 + which]
    Layout(home).checkpoint.write_bytes(b"\n".join(lines))


@pytest.mark.parametrize(("line", "finding"), [(0, (2, "checkpoint-unsigned")), (1, (7, "epoch-unsigned"))])
def test_both_signatures_are_asked_for(boxes: Path, line: int, finding: tuple[int, str]) -> None:
    strip(boxes, line)
    found = only(verify(boxes))
    assert (found.step, found.type) == finding
    assert found.affected.everything


def test_whoever_steals_todays_keys_cannot_rewrite_an_earlier_epoch(boxes: Path) -> None:
    before = verify(boxes).size
    order(boxes, {"act": "epoch"})
    entries = list(open_log(boxes).entries())
    thief = load_signer(boxes)
    thief.enter(1)
    shutil.rmtree(boxes / "log")
    log = Log(boxes / "forged", thief)
    for entry in entries:
        fields = {**entry.map, "pid": 1} if entry.kind == "start" and entry.index < before else entry.map
        log.append(cbor2.dumps(fields, canonical=True))
    log.publish()
    log.close()
    shutil.move(boxes / "forged" / "log", boxes / "log")
    found = only(verify(boxes))
    begun = next(entry.index for entry in entries if entry.kind == "epoch" and entry.index)
    assert (found.step, found.type, found.place) == (7, "epoch-forged", f"log entry {begun}")


def test_an_epochs_lost_certificate_is_missed(boxes: Path) -> None:
    size = verify(boxes).size
    order(boxes, {"act": "epoch"})
    bundle = next((boxes / "log/tile/entries/000.p").iterdir())
    entries = decode_bundle(bundle.read_bytes())
    at = next(at for at, entry in enumerate(entries) if at >= size and b"certificate" in entry)
    entries[at] = entries[at].replace(b"boot", b"toob")
    bundle.write_bytes(encode_bundle(entries))
    found = {(f.step, f.type, f.place) for f in verify(boxes).findings}
    assert found == {(4, "entry-changed", f"log entry {at}"), (7, "epoch-missing", f"log entry {at + 1}")}


def test_a_store_of_the_first_format_is_good_and_may_go_on_in_the_second(tmp_path: Path) -> None:
    fixture = Path(__file__).parents[1] / "formats" / "1"
    report = verify(fixture)
    assert (report.ok, report.segments, report.frames, report.epoch) == (True, 1, 28, None)
    assert 7 in report.skipped
    identity = load_verifier(fixture)
    epoch = Signer(f"{identity.name}/epoch", bytes(32)).verifier
    assert "epoch-missing" in types(verify(fixture, keys=[identity.vkey, epoch.vkey]))


# -- what is left out --------------------------------------------------------------------------------------------------


def test_modes_leave_out_what_they_say(home: Path) -> None:
    blob = Layout(home).segment(1)
    blob.write_bytes(blob.read_bytes() + b"?")
    for path in Layout(home).data_keys.iterdir():
        path.write_bytes(b"")
    assert verify(home, mode="quick").ok
    assert set(verify(home, mode="quick").skipped) == {3, 8, 9, 12}
    assert types(verify(home, mode="stored")) == {"blob-damaged"}
    assert set(verify(home, mode="stored").skipped) == {3, 9, 12}
    assert {"blob-damaged", "data-key-missing"} <= types(verify(home))


def test_a_hole_that_a_damaged_spool_explains_is_a_remark(tmp_path: Path) -> None:
    home = tmp_path / "home"
    writer = SpoolWriter(home, "source")
    stream = writer.open({})
    Sealer(home).stop()
    stream.write(b"lost")
    with writer.path.open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"???")
    stream.write(b"after")
    writer.close()
    Sealer(home).stop()
    report = verify(home)
    assert (report.ok, report.gaps) == (True, 1)
    assert any("goes from frame 1 to 2" in remark for remark in report.remarks), report.remarks


# -- witnesses ---------------------------------------------------------------------------------------------------------


def seen(home: Path, size: int, root: bytes) -> None:
    """A head that a witness is said to have seen, well signed."""
    path = Layout(home).witnessed / "checkpoint"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(load_signer(home).sign(Checkpoint(load_verifier(home).name, size, root).body))


def test_a_witnessed_head_belongs_to_this_log(home: Path) -> None:
    report = verify(home)
    root = open_log(home).checkpoint().root
    seen(home, report.size, root)
    assert verify(home).ok
    seen(home, report.size, bytes(32))
    finding = only(verify(home))
    assert (finding.step, finding.type, finding.affected.everything) == (12, "witness-conflict", True)
    seen(home, report.size + 3, root)
    finding = only(verify(home))
    assert (finding.type, finding.affected.entries) == ("witness-conflict", (report.size, report.size + 2))
    (Layout(home).witnessed / "checkpoint").write_bytes(b"nobody signed this\n")
    assert only(verify(home)).type == "not-witnessed"


def test_a_policy_wants_its_quorum(home: Path) -> None:
    cosigner = Ed25519Cosigner("witness.example/one", bytes(32))
    policy = parse_policy(f"witness one {cosigner.verifier.vkey}\nquorum one\n".encode())
    assert [(f.step, f.type) for f in verify(home, policy=policy).findings] == [(12, "not-witnessed")]
    report = verify(home)
    seen(home, report.size, open_log(home).checkpoint().root)
    assert types(verify(home, policy=policy)) == {"not-witnessed"}
    path = Layout(home).witnessed / "checkpoint"
    path.write_bytes(path.read_bytes() + cosigner.line(parse_note(path.read_bytes()).text, 1000))
    good = verify(home, policy=policy, now=1030.0, max_age=60)
    assert (good.ok, good.witnessed, 12 in good.skipped) == (True, f"{good.size} of {good.size} entries", False)
    assert types(verify(home, policy=policy, now=1100.0, max_age=60)) == {"not-witnessed"}


def test_what_the_disk_does_not_let_us_read_is_no_verdict(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: object) -> None:
        raise OSError(5, "Input/output error", str(home))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(StoreError, match="cannot check .*: Input/output error"):
        verify(home)
