"""The notary gets the log cosigned by a quorum, again and again, whatever becomes of witnesses and network."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from sandtrail.errors import DamagedError, NotFoundError, StoreError
from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import Layout
from sandtrail.store.log import Log
from sandtrail.store.merkle import is_consistent
from sandtrail.store.note import Checkpoint, open_checkpoint, parse_note
from sandtrail.store.policy import load_policy
from sandtrail.store.sealer import Sealer
from sandtrail.store.snapshot import Snapshot
from sandtrail.store.tiles import TileReader
from sandtrail.store.timestamp import check_token
from sandtrail.witness.notary import Notary
from sandtrail.witness.protocol import Reply
from sandtrail.witness.server import WitnessServer
from tests.cluster.nodes import Node
from tests.store.authority import Authority
from tests.store.recording import entries
from tests.witness.serving import Answer, serving

DOWN = Reply(503, b"later\n")
REFUSED = Reply(403, b"no\n")


@dataclass
class Witnesses:
    """Witnesses behind real HTTP, and the policy that wants two of them; those in `down` answer as `reply` says."""

    node: Node
    folder: Path
    servers: list[WitnessServer] = field(default_factory=list)
    down: set[int] = field(default_factory=set)
    reply: Reply = REFUSED

    @property
    def policy(self) -> Path:
        return self.folder / "policy"

    def serve(self, stack: ExitStack, count: int = 3) -> None:
        lines = []
        for number in range(count):
            folder = self.folder / f"w{number}"
            server = WitnessServer(
                folder, name=f"w{number}.example", types=["ed25519"], logs=[self.node.signer.verifier]
            )
            self.servers.append(server)
            url = stack.enter_context(serving(self._answer(number)))
            lines.append(f"witness w{number} {server.vkeys[0]} {url}\n")
        names = " ".join(f"w{number}" for number in range(count))
        self.policy.write_text("".join(lines) + f"group g 2 {names}\nquorum g\n")

    def _answer(self, number: int) -> Answer:
        return lambda _method, _path, body: (
            self.reply if number in self.down else self.servers[number].add_checkpoint(body)
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "node")


@pytest.fixture
def witnesses(node: Node, tmp_path: Path) -> Iterator[Witnesses]:
    with ExitStack() as stack:
        found = Witnesses(node, tmp_path)
        found.serve(stack)
        yield found


@pytest.fixture
def notary(node: Node, witnesses: Witnesses) -> Notary:
    return Notary(node.home, policy=witnesses.policy, timeout=5.0)


def kept(node: Node, witnesses: Witnesses) -> Checkpoint | None:
    """The witnessed checkpoint, which satisfies the policy; None when there is none."""
    path = Layout(node.home).witnessed / "checkpoint"
    if not path.exists():
        return None
    verdict = load_policy(witnesses.policy).judge(path.read_bytes(), log=node.signer.verifier)
    assert verdict.ok, verdict.reason
    return verdict.checkpoint


def test_a_log_is_cosigned_as_it_grows(node: Node, witnesses: Witnesses, notary: Notary) -> None:
    for grown in (0, 3, 300, 1):
        node.grow(grown)
        found = notary.round()
        assert (found.problem, found.failed, found.cosigned) == ("", {}, ("w0", "w1", "w2"))
        assert kept(node, witnesses) == open_checkpoint(node.note, node.signer.verifier)
    lines = parse_note((Layout(node.home).witnessed / "checkpoint").read_bytes()).signatures
    assert [line.name for line in lines] == [node.origin, "w0.example", "w1.example", "w2.example"]


def test_one_witness_of_three_may_be_down(node: Node, witnesses: Witnesses, notary: Notary) -> None:
    node.grow(3)
    witnesses.down, witnesses.reply = {1}, DOWN
    found = notary.round()
    assert (found.problem, found.cosigned) == ("", ("w0", "w2"))
    assert "503" in found.failed["w1"]
    assert kept(node, witnesses)


def test_without_the_quorum_nothing_is_kept_until_it_is_back(node: Node, witnesses: Witnesses, notary: Notary) -> None:
    node.grow(3)
    witnesses.down = {0, 1}
    assert "quorum" in notary.round().problem
    assert kept(node, witnesses) is None
    witnesses.down = set()
    notary.round()
    before = kept(node, witnesses)
    assert before is not None
    node.grow(5)
    witnesses.down = {0, 1}
    assert "quorum" in notary.round().problem
    assert kept(node, witnesses) == before
    node.grow(5)
    witnesses.down = {2}
    assert not notary.round().problem
    assert kept(node, witnesses) == open_checkpoint(node.note, node.signer.verifier)


def test_a_notary_that_begins_anew_goes_on_where_the_witnesses_are(
    node: Node, witnesses: Witnesses, notary: Notary
) -> None:
    node.grow(300)
    notary.round()
    node.grow(300)
    assert not Notary(node.home, policy=witnesses.policy).round().problem
    assert kept(node, witnesses) == open_checkpoint(node.note, node.signer.verifier)


def test_a_log_that_was_cut_back_is_told_and_what_was_witnessed_stays(
    node: Node, witnesses: Witnesses, notary: Notary, tmp_path: Path
) -> None:
    node.grow(3)
    shutil.copytree(node.home, tmp_path / "older")
    node.grow(5)
    notary.round()
    witnessed = Layout(node.home).witnessed / "checkpoint"
    note = witnessed.read_bytes()
    shutil.rmtree(node.home)
    shutil.copytree(tmp_path / "older", node.home)
    # Whoever cuts the log back takes the witnessed checkpoint away as well: the witnesses remember.
    found = notary.round()
    assert found.behind
    assert "quorum" in found.problem
    assert all("8 entries" in error for error in found.failed.values())
    assert not witnessed.exists()
    witnessed.parent.mkdir(parents=True, exist_ok=True)
    witnessed.write_bytes(note)
    found = notary.round()
    assert found.behind
    assert "8 entries" in found.problem
    assert witnessed.read_bytes() == note


def test_a_log_that_was_written_anew_gets_no_cosignature(
    node: Node, witnesses: Witnesses, notary: Notary, tmp_path: Path
) -> None:
    node.grow(3)
    notary.round()
    other = Node(tmp_path / "other")
    other.grow(9)
    found = Notary(other.home, policy=witnesses.policy).round()
    assert found.cosigned == ()
    assert "quorum" in found.problem
    assert kept(other, witnesses) is None


@pytest.mark.parametrize("policy", [None, b"no policy\n"])
def test_a_policy_that_cannot_be_read_is_a_problem_until_it_can(
    node: Node, witnesses: Witnesses, tmp_path: Path, policy: bytes | None
) -> None:
    path = tmp_path / "mine"
    if policy is not None:
        path.write_bytes(policy)
    notary = Notary(node.home, policy=path)
    assert str(path) in notary.round().problem
    path.write_bytes(witnesses.policy.read_bytes())
    assert not notary.round().problem


def test_a_home_without_a_log_is_a_problem(tmp_path: Path, witnesses: Witnesses) -> None:
    assert "no log" in Notary(tmp_path / "nothing", policy=witnesses.policy).round().problem


def test_a_log_that_is_being_written_is_cosigned_all_the_same(node: Node, witnesses: Witnesses, notary: Notary) -> None:
    ended = threading.Event()

    def write() -> None:
        log = Log(node.home, node.signer)
        while not ended.is_set():
            log.append(os.urandom(8))
            log.publish()
        log.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        sizes = []
        for _ in range(10):
            found = notary.round()
            assert (found.problem, found.failed) == ("", {})
            sizes.append(found.size)
    finally:
        ended.set()
        writer.join()
    assert sizes == sorted(sizes)
    witnessed = kept(node, witnesses)
    assert witnessed is not None
    assert TileReader(Layout(node.home).log, node.size).root(witnessed.size) == witnessed.root


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600])
def test_a_snapshot_stays_as_it_was_when_the_log_moves_on(node: Node, size: int) -> None:
    node.grow(size)
    snapshot = Snapshot.take(node.home, node.signer.verifier)
    node.grow(300)
    assert snapshot.root() == snapshot.checkpoint.root
    for old in range(1, size, 50):
        proof = snapshot.consistency(old)
        assert is_consistent(old, snapshot.root(old), size, snapshot.checkpoint.root, proof)


def test_no_snapshot_is_taken_of_what_is_no_log(node: Node, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Snapshot.take(tmp_path / "nothing", node.signer.verifier)
    node.grow(5)
    (Layout(node.home).log / "tile/0/000.p/5").unlink()
    with pytest.raises(StoreError, match="lacks"):
        Snapshot.take(node.home, node.signer.verifier)
    Layout(node.home).checkpoint.write_bytes(b"nothing\n\n")
    with pytest.raises(DamagedError):
        Snapshot.take(node.home, node.signer.verifier)


def test_it_goes_on_until_it_is_told_to_stop_and_then_does_it_once_more(
    node: Node, witnesses: Witnesses, notary: Notary
) -> None:
    pauses: list[float] = []

    def stopped(seconds: float) -> bool:
        pauses.append(seconds)
        node.grow(1)
        witnesses.down = {0, 1} if len(pauses) == 2 else set()
        return len(pauses) == 5

    notary.run(60.0, stopped)
    assert pauses == [0.0, 60.0, 1.0, 60.0, 60.0]
    assert kept(node, witnesses) == open_checkpoint(node.note, node.signer.verifier)


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.02)


def test_as_a_process_it_survives_being_killed_and_cosigns_once_more_at_the_end(
    node: Node, witnesses: Witnesses
) -> None:
    environment = {**os.environ, "SANDTRAIL_WITNESS_POLICY": str(witnesses.policy)}
    command = [sys.executable, "-m", "sandtrail.witness.notary", "--home", str(node.home)]
    node.grow(3)
    first = subprocess.Popen(command, env=environment)
    wait_for(lambda: kept(node, witnesses))
    first.kill()
    first.wait(60)
    node.grow(3)
    second = subprocess.Popen(command, env=environment)
    wait_for(lambda: (found := kept(node, witnesses)) is not None and found.size == 6)
    node.grow(3)
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
    assert kept(node, witnesses) == open_checkpoint(node.note, node.signer.verifier)


@pytest.mark.needs("openssl")
def test_a_time_token_over_the_checkpoint_gets_into_the_log_when_it_is_due(store: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    ended = threading.Event()
    sealer = Sealer(store)
    recorder = threading.Thread(target=lambda: sealer.run(ended.is_set))
    recorder.start()
    try:
        with authority.serving() as url:
            notary = Notary(store, tsa_url=url, tsa_every=3600)
            assert notary.stamp()
            assert not notary.stamp()
            (tmp_path / "roots").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in authority.roots))
            assert Notary(store, tsa_url=url, tsa_roots=tmp_path / "roots").stamp()
            other = Authority(tmp_path / "other")
            (tmp_path / "strange").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in other.roots))
            assert not Notary(store, tsa_url=url, tsa_roots=tmp_path / "strange").stamp()
        assert not Notary(store, tsa_url=url, timeout=5.0).stamp()
        assert not Notary(store).stamp()
    finally:
        ended.set()
        recorder.join()
        sealer.stop()
    tokens = [fields for kind, fields in entries(store) if kind == "time"]
    assert len(tokens) == 2
    for fields in tokens:
        stamped = check_token(fields["token"], fields["checkpoint"], authority.roots)
        assert abs(stamped.time - time.time_ns()) < 3600e9
        assert open_checkpoint(fields["checkpoint"], load_verifier(store)).size == fields["size"]


@pytest.mark.needs("openssl")
def test_a_log_that_nobody_writes_is_not_stamped(store: Path, tmp_path: Path) -> None:
    Sealer(store).stop()
    os.utime(Layout(store).checkpoint, (0, 0))
    with Authority(tmp_path / "authority").serving() as url:
        assert not Notary(store, tsa_url=url).stamp()
    assert "time" not in [kind for kind, _ in entries(store)]


def test_without_settings_there_is_nothing_to_do_and_the_keeper_hears_so(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SANDTRAIL_WITNESS_POLICY", "SANDTRAIL_TSA_URL"):
        monkeypatch.delenv(name, raising=False)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        fd = str(theirs.fileno())
        command = [sys.executable, "-m", "sandtrail.witness.notary", "--home", str(node.home), "--control-fd", fd]
        done = subprocess.run(command, pass_fds=[theirs.fileno()], cwd=node.home, timeout=60, check=False)
        assert done.returncode == 0
        assert ours.recv(100) == b'{"op": "idle"}'
