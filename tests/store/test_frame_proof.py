"""One frame, proven to somebody who has nothing but the log's keys."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError, ErasedError, NotFoundError
from sandtrail.store import sealer as module
from sandtrail.store.acts import order
from sandtrail.store.cosignature import Ed25519Cosigner
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.frame_proof import check_proof_file, make_proof
from sandtrail.store.frames import Ref
from sandtrail.store.keys import load_pins, load_signer
from sandtrail.store.layout import Layout
from sandtrail.store.leaves import frame_leaf
from sandtrail.store.log import read_checkpoint
from sandtrail.store.manifest import decode_entry
from sandtrail.store.merkle import inclusion_path, leaf_hash, root_from_path, tree_root
from sandtrail.store.note import Checkpoint, Signer, Verifier, parse_note
from sandtrail.store.policy import parse_policy
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from sandtrail.store.tiles import TileReader
from sandtrail.store.tlog_proof import encode_proof
from sandtrail.store.verify import verify
from tests.store.recording import growing, sealed, step_until_idle

FORMAT_1 = Path(__file__).parent / "formats" / "1"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs, a few segments in each, of a sandbox and of the node itself."""
    home = tmp_path_factory.mktemp("proof") / "home"
    writer = SpoolWriter(home, "source")
    inside = writer.open({"source": "test", "session": "one", "sandbox": "box"})
    own = writer.open({"source": "test"})
    sealer = Sealer(home)
    for number in range(3):
        for part in range(2):
            inside.write_many([b"%d %d %d" % (number, part, place) for place in range(5)])
            own.write(b"own")
            step_until_idle(sealer)
            sealer.settle()
        if number < 2:
            sealer.begin_epoch()
    writer.close()
    sealer.stop()
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "home"))


def pins(home: Path) -> tuple[Verifier, Verifier]:
    identity, first = load_pins(home)
    assert first is not None
    return identity, first


def test_every_frame_can_be_proven_and_its_proof_checked_with_nothing_but_the_keys(original: Path) -> None:
    keys = pins(original)
    for frame in sealed(original):
        proof = check_proof_file(make_proof(original, Ref.parse(frame.ref)), *keys)
        assert str(proof.ref) == frame.ref
        assert (proof.stream, proof.seq, proof.kind, proof.payload) == (
            frame.stream,
            frame.seq,
            frame.kind,
            frame.payload,
        )
        assert proof.when == (frame.realtime_ns, frame.monotonic_ns, frame.boottime_ns)
        assert proof.epoch == 2
        assert proof.checkpoint.origin == keys[0].name


def test_a_frame_of_the_first_format_can_be_proven(tmp_path: Path) -> None:
    identity, first = load_pins(FORMAT_1)
    assert first is None
    for frame in sealed_of_format_1():
        proof = check_proof_file(make_proof(FORMAT_1, frame), identity)
        assert (proof.ref, proof.epoch) == (frame, None)


def sealed_of_format_1() -> list[Ref]:
    frames = verify(FORMAT_1).frames
    assert frames > 5
    return [Ref(0, place) for place in (0, 1, frames - 1)]


def test_any_one_changed_byte_of_a_proof_is_found(original: Path) -> None:
    keys = pins(original)
    data = make_proof(original, Ref(2, 3))
    check_proof_file(data, *keys)
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
        with pytest.raises(DamagedError):
            check_proof_file(changed, *keys)


def extra(data: bytes) -> dict[str, Any]:
    line = next(line for line in data.split(b"\n") if line.startswith(b"extra "))
    found: dict[str, Any] = cbor2.loads(base64.b64decode(line[6:]))
    return found


def with_extra(data: bytes, **changes: Any) -> bytes:
    fields = {key: value for key, value in {**extra(data), **changes}.items() if value is not ...}
    lines = data.split(b"\n")
    lines[1] = b"extra " + base64.b64encode(cbor2.dumps(fields, canonical=True))
    return b"\n".join(lines)


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": b"another"},
        {"seq": 1},
        {"seq": 1 << 63},
        {"stream": 5},
        {"kind": 3},
        {"place": 1},
        {"place": 1 << 40},
        {"when": [1, 2, 3]},
        {"when": [1, 2]},
        {"when": [1, 2, -3]},
        {"salt": bytes(32)},
        {"salt": b""},
        {"inner": []},
        {"inner": [bytes(32)] * 64},
        {"inner": [bytes(31)]},
        {"entry": b""},
        {"entry": b"\xa0"},
        {"epochs": []},
        {"epochs": ["nonsense"]},
        {"epochs": [5]},
        {"closed": []},
        {"closed": [bytes(32)]},
        {"v": 1},
        {"v": True},
        {"v": ...},
        {"more": 1},
    ],
)
def test_a_proof_of_anything_else_does_not_hold(original: Path, changes: dict[str, Any]) -> None:
    data = make_proof(original, Ref(2, 3))
    assert with_extra(data) == data
    with pytest.raises(DamagedError):
        check_proof_file(with_extra(data, **changes), *pins(original))


def test_parts_of_two_proofs_do_not_make_a_third(original: Path) -> None:
    one, other = make_proof(original, Ref(2, 3)), make_proof(original, Ref(4, 3))
    for name, value in extra(other).items():
        if value != extra(one)[name]:
            with pytest.raises(DamagedError):
                check_proof_file(with_extra(one, **{name: value}), *pins(original))


def test_another_log_or_another_first_epoch_is_not_the_one_that_was_asked_for(original: Path) -> None:
    identity, first = pins(original)
    data = make_proof(original, Ref(2, 3))
    with pytest.raises(DamagedError):
        check_proof_file(data, Signer("another/log", bytes(32)).verifier, first)
    with pytest.raises(DamagedError):
        check_proof_file(data, Signer(identity.name, bytes(32)).verifier, first)
    with pytest.raises(DamagedError, match="certificate"):
        check_proof_file(data, identity, Signer(first.name, bytes(32)).verifier)
    with pytest.raises(DamagedError, match="key"):
        check_proof_file(data, None)
    assert check_proof_file(data, identity).epoch is None


def test_whoever_steals_todays_keys_cannot_prove_another_yesterday(home: Path) -> None:
    """A log that is good in itself but for its past, signed with the identity's key and the current epoch's."""
    keys, data = pins(home), make_proof(home, Ref(2, 3))
    log = Layout(home).log
    tiles = TileReader(log, open_log(home).size())
    lied = [tiles.entry(index) for index in range(tiles.size)]
    index, manifest = open_log(home).manifest(2)
    found = extra(data)
    leaf = frame_leaf(found["stream"], found["seq"], found["kind"], tuple(found["when"]), b"a lie", found["salt"])
    root = root_from_path(leaf, 3, manifest["frames"], found["inner"])
    lied[index] = cbor2.dumps({**decode_entry(index, lied[index]).map, "root": root}, canonical=True)
    leaves = [leaf_hash(entry) for entry in lied]
    thief = load_signer(home)
    thief.enter(2)
    note = thief.sign(Checkpoint(keys[0].name, len(leaves), tree_root(leaves)).body)
    lie = with_extra(data, payload=b"a lie", entry=lied[index])
    line = next(line for line in lie.split(b"\n") if line.startswith(b"extra "))
    forged = encode_proof(index, inclusion_path(leaves, index), note, base64.b64decode(line[6:]))
    assert check_proof_file(forged, keys[0]).payload == b"a lie", "the identity alone cannot tell"
    with pytest.raises(DamagedError, match="when epoch 1 began"):
        check_proof_file(forged, *keys)
    lie = with_extra(forged, closed=[])
    with pytest.raises(DamagedError, match="when epoch 1 began"):
        check_proof_file(lie, *keys)


def test_a_log_entry_that_is_no_segment_proves_no_frame(original: Path) -> None:
    data = make_proof(original, Ref(2, 3))
    lines = data.split(b"\n")
    del lines[1]
    with pytest.raises(DamagedError, match="no frame"):
        check_proof_file(b"\n".join(lines), *pins(original))


@given(st.binary(max_size=300))
def test_whatever_the_file_holds_the_answer_is_ours(data: bytes) -> None:
    identity = Signer("test/log", bytes(32)).verifier
    for hostile in (data, b"c2sp.org/tlog-proof@v1\nextra " + base64.b64encode(data) + b"\nindex 0\n\nx\n"):
        with pytest.raises(DamagedError):
            check_proof_file(hostile, identity)


def test_a_proof_that_was_handed_out_holds_after_the_erasure(home: Path) -> None:
    frame = next(frame for frame in sealed(home) if frame.payload == b"1 0 3")
    data = make_proof(home, Ref.parse(frame.ref))
    keys = [key.id for key in DataKeys(home).of_session("one")]
    order(home, {"act": "erase", "keys": keys, "reason": "asked for", "by": "test"})
    assert check_proof_file(data, *pins(home)).payload == b"1 0 3"
    with pytest.raises(ErasedError):
        make_proof(home, Ref.parse(frame.ref))
    report = verify(home)
    assert (report.ok, report.erased > 0) == (True, True)


def test_what_was_never_recorded_cannot_be_proven(home: Path) -> None:
    for ref in (Ref(0, 99), Ref(99, 0)):
        with pytest.raises(NotFoundError):
            make_proof(home, ref)


def test_what_is_damaged_or_gone_is_not_proven(home: Path) -> None:
    Layout(home).segment(1).unlink()
    with pytest.raises(DamagedError, match="missing"):
        make_proof(home, Ref(1, 0))
    blob = Layout(home).segment(2)
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedError):
        make_proof(home, Ref(2, 0))
    tile = next((home / "log/tile/0/000.p").iterdir())
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    with pytest.raises(DamagedError):
        make_proof(home, Ref(3, 0))


WITNESS = Ed25519Cosigner("witness.example/one", bytes(range(32)))
NOW = 1_800_000_000


def witnessed(home: Path, at: int = NOW) -> None:
    note = read_checkpoint(Layout(home).log) or b""
    path = Layout(home).witnessed / "checkpoint"
    path.parent.mkdir()
    path.write_bytes(note + WITNESS.line(parse_note(note).text, at))


def policy(home: Path) -> Any:
    lines = [f"log {pins(home)[0].vkey}", f"witness one {WITNESS.verifier.vkey}", "group g all one", "quorum g", ""]
    return parse_policy("\n".join(lines).encode())


def test_a_proof_is_under_the_head_that_witnesses_have_seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_EVERY", 0.0)
    rules = policy(home)
    with pytest.raises(DamagedError, match="quorum"):
        check_proof_file(make_proof(home, Ref(2, 3)), None, policy=rules, now=NOW)
    witnessed(home)
    size = verify(home, policy=rules, now=NOW).size
    sealer = Sealer(home)
    for _ in range(300):
        sealer.step()
    sealer.stop()
    data = make_proof(home, Ref(2, 3))
    proof = check_proof_file(data, None, pins(home)[1], policy=rules, now=NOW + 50, max_age=60)
    assert proof.checkpoint.size == size < verify(home).size
    assert [(one.name, one.state, one.at) for one in proof.witnesses] == [("one", "good", NOW)]
    with pytest.raises(DamagedError, match="too old"):
        check_proof_file(data, None, policy=rules, now=NOW + 70, max_age=60)
    later = verify(home)
    assert later.segments > 0


def test_a_frame_can_be_proven_while_the_log_grows(home: Path) -> None:
    with growing(home, 7):
        data = make_proof(home, Ref(2, 3))
    assert check_proof_file(data, *pins(home)).epoch == 2
