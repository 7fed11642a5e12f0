"""What a witness remembers, keeps as evidence, and does when its disk or its operator fails it."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandtrail.errors import DamagedError, StoreError, UsageError
from sandtrail.store.cosignature import CosignatureKey, cosigned_at, parse_key
from sandtrail.store.note import Checkpoint, Signer, open_checkpoint, parse_note, signed_by, valid_name
from sandtrail.witness.evidence import Evidence, read_evidence
from sandtrail.witness.folder import WitnessFolder, origin_hash
from sandtrail.witness.protocol import Misconduct, encode_request, parse_request
from sandtrail.witness.server import WitnessServer
from tests.witness.a_log import ORIGIN, ALog

NOW = 1_700_000_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> ALog:
    return ALog(tmp_path_factory.mktemp("log"))


class Witness:
    """A witness that can be stopped and started again over one folder."""

    def __init__(self, folder: Path, log: ALog, now: float = NOW) -> None:
        self.folder, self.log, self.now = folder, log, now
        self.start()

    def start(self) -> None:
        self.server = WitnessServer(
            self.folder, name="w.example", logs=[self.log.signer.verifier], now=lambda: self.now
        )

    def stop(self) -> None:
        self.server.close()

    def public(self) -> list[CosignatureKey]:
        return [key for key in map(parse_key, self.server.vkeys) if isinstance(key, CosignatureKey)]

    def add(self, old: int, size: int, log: ALog | None = None) -> int:
        return self.server.add_checkpoint((log or self.log).body(old, size)).status

    def evidence(self) -> list[Evidence]:
        return list(WitnessFolder(self.folder).evidence())

    def head(self) -> int:
        reply = self.server.handle("GET", f"/{origin_hash(ORIGIN)}/checkpoint", b"")
        return open_checkpoint(reply.body, self.log.signer.verifier).size if reply.status == 200 else -1


@pytest.fixture
def witness(tmp_path: Path, log: ALog) -> Iterator[Witness]:
    found = Witness(tmp_path / "witness", log)
    yield found
    found.stop()


def test_it_cosigns_with_both_keys_and_says_when(witness: Witness, log: ALog) -> None:
    reply = witness.server.add_checkpoint(log.body(0, 5))
    assert reply.status == 200
    note = parse_note(log.head(5) + reply.body)
    assert [cosigned_at(note, key) for key in witness.public()] == [NOW, NOW]
    assert [type(key).__name__ for key in witness.public()] == ["MLDSAKey", "Ed25519Key"]


def test_what_it_serves_to_monitors_carries_the_logs_signature_and_its_own(witness: Witness, log: ALog) -> None:
    path = f"/{origin_hash(ORIGIN)}/checkpoint"
    assert witness.server.handle("GET", path, b"").status == 404
    stranger = b"\xe2\x80\x94 stranger AAAAAAAA\n"
    witness.server.add_checkpoint(encode_request(0, [], log.head(5) + stranger))
    served = parse_note(witness.server.handle("GET", path, b"").body)
    assert signed_by(served, log.signer.verifier)
    assert all(cosigned_at(served, key) == NOW for key in witness.public())
    assert len(served.signatures) == 3
    assert witness.server.handle("POST", path, b"").status == 405
    assert witness.server.handle("GET", "/add-checkpoint", b"").status == 405
    for nowhere in ("/", "", "/checkpoint", f"/../{origin_hash(ORIGIN)}/checkpoint", f"/{'A' * 64}/checkpoint"):
        assert witness.server.handle("GET", nowhere, b"").status == 404


def test_prefixes_are_the_operators(tmp_path: Path, log: ALog) -> None:
    server = WitnessServer(tmp_path, name="w", logs=[log.signer.verifier], submit="/in", monitor="/out")
    assert server.handle("POST", "/add-checkpoint", log.body(0, 5)).status == 404
    assert server.handle("POST", "/in/add-checkpoint", log.body(0, 5)).status == 200
    assert server.handle("GET", f"/out/{origin_hash(ORIGIN)}/checkpoint", b"").status == 200
    assert server.handle("GET", f"/{origin_hash(ORIGIN)}/checkpoint", b"").status == 404


def test_it_remembers_over_a_restart(witness: Witness, log: ALog) -> None:
    assert witness.add(0, 5) == 200
    keys = witness.public()
    witness.stop()
    witness.start()
    assert witness.public() == keys
    assert witness.add(0, 9) == 409
    assert witness.add(5, 9) == 200
    assert witness.head() == 9


def test_a_head_may_be_cosigned_again_later(witness: Witness, log: ALog) -> None:
    assert witness.add(0, 5) == 200
    witness.now = NOW + 60
    reply = witness.server.add_checkpoint(log.body(5, 5))
    assert [cosigned_at(parse_note(log.head(5) + reply.body), key) for key in witness.public()] == [NOW + 60] * 2


def test_it_never_goes_back(witness: Witness) -> None:
    assert witness.add(0, 9) == 200
    assert witness.add(5, 5) == 409
    assert witness.add(0, 5) == 409
    assert witness.head() == 9


def test_of_many_that_come_at_once_one_gets_in(witness: Witness, log: ALog) -> None:
    assert witness.add(0, 5) == 200
    bodies = [log.body(5, size) for size in range(6, 30)]
    start = threading.Barrier(len(bodies))

    def ask(body: bytes) -> tuple[int, int]:
        start.wait(60)
        return witness.server.add_checkpoint(body).status, parse_request(body).checkpoint.size

    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(ask, bodies))
    accepted = [size for status, size in answers if status == 200]
    assert len(accepted) == 1
    assert {status for status, _ in answers} == {200, 409}
    assert witness.head() == accepted[0]


def test_a_fork_is_kept_with_both_heads_and_only_once(witness: Witness, log: ALog, tmp_path: Path) -> None:
    fork = ALog(tmp_path / "fork", word="other")
    assert witness.add(0, 5) == 200
    for _ in range(3):
        assert witness.add(5, 5, fork) == 422
        assert witness.add(0, 5, fork) == 409
    (found,) = witness.evidence()
    assert (found.kind, found.proven, found.origin) == (Misconduct.FORK, True, ORIGIN)
    heads = [open_checkpoint(text.encode(), log.signer.verifier) for text in (found.held, found.submitted)]
    assert heads == [log.checkpoint(5), fork.checkpoint(5)]
    assert json.loads(found.path.read_text())["v"] == 1
    assert found.holds([log.signer.verifier])
    assert not found.holds([])
    assert not found.holds([Signer(ORIGIN, bytes(32)).verifier])
    assert not replace(found, submitted=found.held).holds([log.signer.verifier])
    assert not replace(found, submitted=log.head(6).decode()).holds([log.signer.verifier])
    assert not replace(found, submitted="").holds([log.signer.verifier])
    assert witness.head() == 5


def test_a_head_without_a_proof_is_kept_as_a_suspicion(witness: Witness, log: ALog, tmp_path: Path) -> None:
    rewritten = ALog(tmp_path / "rewritten", word="other")
    assert witness.add(0, 5) == 200
    assert witness.add(5, 9, rewritten) == 422
    (found,) = witness.evidence()
    assert (found.kind, found.proven, found.old) == (Misconduct.UNPROVEN, False, 5)
    assert len(found.proof) == len(rewritten.reader(9).consistency(5))
    assert found.holds([log.signer.verifier])
    good = [base64.b64encode(node).decode() for node in log.reader(9).consistency(5)]
    assert replace(found, submitted=log.head(9).decode()).holds([log.signer.verifier])
    assert not replace(found, submitted=log.head(9).decode(), proof=tuple(good)).holds([log.signer.verifier])


def test_a_signed_head_of_an_empty_tree_with_a_root_of_something_is_kept(witness: Witness, log: ALog) -> None:
    note = log.signer.sign(Checkpoint(ORIGIN, 0, bytes(32)).body)
    assert witness.server.add_checkpoint(encode_request(0, [], note)).status == 422
    (found,) = witness.evidence()
    assert (found.kind, found.proven, found.held) == (Misconduct.EMPTY, True, "")
    assert found.holds([log.signer.verifier])
    assert not replace(found, submitted=log.head(0).decode()).holds([log.signer.verifier])


def test_suspicions_do_not_fill_the_disk_and_leave_room_for_forks(witness: Witness, log: ALog, tmp_path: Path) -> None:
    fork = ALog(tmp_path / "fork", word="other")
    assert witness.add(0, 5) == 200
    for size in range(6, 130):
        assert witness.server.add_checkpoint(encode_request(5, [], log.head(size))).status == 422
    assert len(witness.evidence()) == 100
    assert witness.add(5, 5, fork) == 422
    assert [one.kind for one in witness.evidence() if one.proven] == [Misconduct.FORK]


def test_strangers_leave_nothing(witness: Witness, tmp_path: Path) -> None:
    before = sorted(witness.folder.rglob("*"))
    stranger = ALog(tmp_path / "stranger", private=bytes(32))
    assert witness.add(0, 5, stranger) == 403
    assert witness.server.add_checkpoint(b"nonsense").status == 400
    assert sorted(witness.folder.rglob("*")) == before


def test_a_damaged_record_is_never_taken_for_none(witness: Witness, log: ALog) -> None:
    assert witness.add(0, 5) == 200
    path = witness.folder / "heads" / origin_hash(ORIGIN)
    good = path.read_bytes()
    smaller = log.head(3)  # genuine, and not what was cosigned
    for bad in (b"", good[:-1], good.replace(b"\n5\n", b"\n4\n"), smaller):
        path.write_bytes(bad)
        assert witness.add(0, 9) == 500
        assert witness.add(5, 9) == 500
    path.write_bytes(good)
    assert witness.add(5, 9) == 200


def test_what_cannot_be_written_is_not_cosigned(witness: Witness) -> None:
    assert witness.add(0, 5) == 200
    heads = witness.folder / "heads"
    heads.rename(witness.folder / "aside")
    heads.write_text("in the way")
    assert witness.add(5, 9) == 500
    heads.unlink()
    (witness.folder / "aside").rename(heads)
    assert witness.head() == 5
    assert witness.add(5, 9) == 200


def test_two_servers_do_not_share_a_folder(witness: Witness) -> None:
    with pytest.raises(StoreError, match="another witness"):
        witness.start()


def test_a_lost_or_opened_key_stops_the_start(witness: Witness, tmp_path: Path) -> None:
    witness.stop()
    path = witness.folder / "keys" / "ed25519.key"
    path.chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        witness.start()
    path.chmod(0o600)
    private = path.read_bytes()
    path.write_bytes(bytes(32))
    with pytest.raises(DamagedError, match="not the key"):
        witness.start()
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        witness.start()
    path.write_bytes(private)
    path.chmod(0o600)
    witness.start()


def test_a_witness_keeps_its_name(witness: Witness) -> None:
    witness.stop()
    folder = WitnessFolder(witness.folder)
    assert [one.verifier for one in folder.cosigners()] == witness.public()
    with pytest.raises(UsageError, match=r"called w\.example"):
        folder.cosigners("another")
    with pytest.raises(UsageError, match="no type of key"):
        WitnessFolder(witness.folder / "new").cosigners("w", ["rsa"])


def test_logs_are_read_again_when_the_file_changes(tmp_path: Path, log: ALog) -> None:
    server = WitnessServer(tmp_path, name="w")
    assert server.add_checkpoint(log.body(0, 5)).status == 404
    (tmp_path / "logs").write_text(f"# ours\n{log.vkey}\n")
    assert server.add_checkpoint(log.body(0, 5)).status == 200
    # A mistake of the operator's does not make it forget whom it serves.
    (tmp_path / "logs").write_text("nonsense, and longer than before\n")
    assert server.add_checkpoint(log.body(5, 9)).status == 200
    server.close()
    with pytest.raises(UsageError):
        WitnessServer(tmp_path, name="w")


def test_a_log_whose_name_has_no_room_in_a_cosignature_is_refused_at_the_start(tmp_path: Path) -> None:
    long = Signer("o" * 256, bytes(32)).verifier
    with pytest.raises(UsageError, match="255 bytes"):
        WitnessServer(tmp_path / "both", name="w", logs=[long])
    WitnessServer(tmp_path / "ed25519", name="w", types=["ed25519"], logs=[long]).close()


def test_a_folder_that_cannot_be_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        WitnessServer(tmp_path / "file" / "witness", name="w")


def test_a_log_is_added_once(tmp_path: Path, log: ALog) -> None:
    folder = WitnessFolder(tmp_path)
    assert folder.add_log(log.signer.verifier)
    assert not folder.add_log(log.signer.verifier)
    assert folder.logs() == [log.signer.verifier]


FIELDS = {"kind": "fork", "origin": "x", "seen": 1, "held": "", "submitted": "", "old": 0, "proof": ["AA=="]}


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '"\\ud800"', "\0", '{"kind": "fork"}'])
def test_a_file_that_is_no_evidence_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DamagedError):
        read_evidence(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(FIELDS)), JSON)
def test_a_file_with_any_value_in_any_field_is_evidence_that_proves_nothing_or_none(name: str, value: object) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        path.write_text(json.dumps({**FIELDS, name: value}))
        try:
            found = read_evidence(path)
        except DamagedError:
            return
    assert not found.holds([Signer(found.origin, bytes(32)).verifier] if valid_name(found.origin) else [])
    assert json.dumps(found.as_dict())


def test_a_witness_that_lost_its_record_forgets_what_it_vouched_for(
    witness: Witness, log: ALog, tmp_path: Path
) -> None:
    # What no witness can help: its operator restores an old copy. docs/witness.md says so.
    assert witness.add(0, 5) == 200
    shutil.rmtree(witness.folder / "heads")
    assert witness.add(0, 5, ALog(tmp_path / "fork", word="other")) == 200
