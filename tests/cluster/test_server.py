"""A cluster's log over HTTP: what nodes and readers get, in one process and from the real command."""

from __future__ import annotations

import json
import shutil
import threading
import time
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from sandtrail.cluster.entries import encode_entry
from sandtrail.cluster.log import ClusterLog
from sandtrail.cluster.mirror import mirror
from sandtrail.cluster.server import ClusterServer
from sandtrail.cluster.verify import verify_cluster
from sandtrail.errors import NotFoundError, StoreError
from sandtrail.store.keyfile import read_private
from sandtrail.store.layout import Layout, publish
from sandtrail.store.log import Log, read_checkpoint
from sandtrail.store.note import Checkpoint, Signer, open_checkpoint
from sandtrail.store.tiles import TileReader, decode_bundle
from sandtrail.witness.notary import Notary
from tests.cluster import running
from tests.cluster.nodes import Node
from tests.inside import sandtrail
from tests.store.faults_os import unreadable
from tests.store.foreign_go import check_log, fsck
from tests.witness.running import witness
from tests.witness.serving import serving

ORIGIN = "example.org/c"


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterLog:
    return ClusterLog(tmp_path / "cluster", ORIGIN)


@pytest.fixture
def server(cluster: ClusterLog) -> ClusterServer:
    return ClusterServer(cluster)


@pytest.fixture
def node(tmp_path: Path, cluster: ClusterLog) -> Node:
    node = Node(tmp_path / "node")
    cluster.register([node.vkey])
    return node


def fill(cluster: ClusterLog, vkey: str, count: int) -> None:
    """Sign so many entries at once: a node comes and goes. `count` is even, and it ends as it began."""
    origin = vkey.partition("+")[0]
    node = {"origin": origin, "identity": vkey, "first_epoch": None}
    retired = cluster.registry.nodes[origin].retired
    log = Log(cluster.home, Signer(cluster.origin, read_private(cluster.home / "keys" / "log.key")))
    for _ in range(count // 2):
        log.append(encode_entry("node", **node, retired=not retired))
        log.append(encode_entry("node", **node, retired=retired))
    log.publish()
    log.close()


def get(server: ClusterServer, path: str) -> tuple[int, bytes]:
    reply = server.handle("GET", path, b"")
    return reply.status, reply.body


def test_it_answers_as_a_witness_does(server: ClusterServer, node: Node) -> None:
    node.grow(3)
    assert server.handle("POST", "/add-checkpoint", node.request()).status == 200
    old = server.handle("POST", "/add-checkpoint", node.request())
    assert (old.status, old.body, old.content_type) == (409, b"3\n", "text/x.tlog.size")
    assert server.handle("POST", "/add-checkpoint", b"nothing").status == 400
    assert server.handle("GET", "/add-checkpoint", b"").status == 405
    status, note = get(server, f"/{sha256(node.origin.encode()).hexdigest()}/checkpoint")
    assert (status, open_checkpoint(note, node.signer.verifier).size) == (200, 3)


def test_its_own_log_is_served_as_tiles_also_at_earlier_sizes(
    server: ClusterServer, cluster: ClusterLog, node: Node
) -> None:
    sizes = []
    for _ in range(5):
        node.grow(1)
        server.handle("POST", "/add-checkpoint", node.request(node.size - 1))
        status, note = get(server, "/checkpoint")
        assert status == 200
        sizes.append(open_checkpoint(note, cluster.verifier).size)
    assert sizes == [2, 3, 4, 5, 6]
    now = TileReader(Layout(cluster.home).log, 6)
    for size in range(1, 7):
        assert get(server, f"/tile/0/000.p/{size}") == (200, b"".join(now.hashes(0, 0)[:size]))
        status, bundle = get(server, f"/tile/entries/000.p/{size}")
        assert (status, decode_bundle(bundle)) == (200, now.entries(0)[:size])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/witnessed/checkpoint",
        "/keys/log.key",
        "/tile/0/000",
        "/tile/0/000.p/2",
        "/tile/0/001.p/1",
        "/tile/1/000.p/1",
        "/tile/00/000.p/1",
        "/tile/0/0.p/1",
        "/tile/entries/../../checkpoint",
        "/tile/entries/000.p/0",
        "/tile/99/000.p/1",
        "/" + "0" * 64 + "/checkpoint",
        "/tile/0/" + "x999/" * 6 + "999",
    ],
)
def test_what_is_not_signed_for_or_not_public_is_not_served(server: ClusterServer, node: Node, path: str) -> None:
    assert node.size == 0
    assert get(server, path)[0] == 404
    assert get(server, "/tile/0/000.p/1")[0] == 200


def test_nothing_is_served_or_taken_once_the_log_is_damaged(
    server: ClusterServer, cluster: ClusterLog, node: Node
) -> None:
    node.grow(1)
    (cluster.home / "log/tile/0/000.p/1").write_bytes(b"x" * 32)
    assert server.handle("POST", "/add-checkpoint", node.request()).status == 500
    (cluster.home / "log/tile/0/000.p/1").unlink()
    assert get(server, "/tile/0/000.p/1")[0] == 500


def test_the_silent_are_looked_after_until_it_is_told_to_stop(tmp_path: Path) -> None:
    log = ClusterLog(tmp_path / "cluster", silence=0.2)
    node = Node(tmp_path / "node")
    log.register([node.vkey])
    stopped = threading.Event()
    thread = threading.Thread(target=ClusterServer(log).watch, args=(stopped,))
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not log.registry.nodes[node.origin].silences:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        stopped.set()
        thread.join()


# -- a copy of it ------------------------------------------------------------------------------------------------------


def test_a_mirror_is_verified_as_the_log_itself(
    server: ClusterServer, cluster: ClusterLog, node: Node, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    with serving(server.handle) as url:
        for grown in (2, 520, 4):
            fill(cluster, node.vkey, grown)
            mirror(url, copy, cluster.verifier)
            report = verify_cluster(copy, key=cluster.verifier.vkey)
            assert report.ok, report.findings
        assert report.size == 1 + 526
        publish(Layout(cluster.home).witnessed / "checkpoint", read_checkpoint(Layout(cluster.home).log) or b"")
        mirror(url, copy, cluster.verifier)
        assert (Layout(copy).witnessed / "checkpoint").exists()


def test_a_mirror_shows_that_the_log_was_written_anew(
    server: ClusterServer, cluster: ClusterLog, node: Node, tmp_path: Path
) -> None:
    fill(cluster, node.vkey, 260)
    with serving(server.handle) as url:
        mirror(url, tmp_path / "copy", cluster.verifier)
        shutil.rmtree(cluster.home / "log")
        (cluster.home / "log").mkdir()
        anew = ClusterLog(cluster.home)
        anew.register([node.vkey])
        fill(anew, node.vkey, 280)
        mirror(url, tmp_path / "copy", cluster.verifier)
    report = verify_cluster(tmp_path / "copy", key=cluster.verifier.vkey)
    assert [finding.type for finding in report.findings][:1] == ["root-mismatch"]


def test_a_copy_that_cannot_be_read_is_not_fetched_anew(
    server: ClusterServer, cluster: ClusterLog, node: Node, tmp_path: Path
) -> None:
    with serving(server.handle) as url:
        mirror(url, tmp_path / "copy", cluster.verifier)
        tile = tmp_path / "copy/log/tile/0/000.p/1"
        tile.write_bytes(b"what we remember")
        with unreadable(lambda path: path == tile), pytest.raises(StoreError, match="cannot be read"):
            mirror(url, tmp_path / "copy", cluster.verifier)
    assert tile.read_bytes() == b"what we remember"
    assert node.size == 0


def test_what_is_no_log_or_not_there_is_not_mirrored(
    server: ClusterServer, cluster: ClusterLog, node: Node, tmp_path: Path
) -> None:
    with pytest.raises(StoreError):
        mirror("http://127.0.0.1:1", tmp_path / "copy", cluster.verifier)
    with serving(server.handle) as url:
        with pytest.raises(NotFoundError):
            mirror(f"{url}/elsewhere", tmp_path / "copy", cluster.verifier)
        (cluster.home / "log/tile/entries/000.p/1").unlink()
        with pytest.raises(StoreError):
            mirror(url, tmp_path / "copy", cluster.verifier)
        (cluster.home / "log/checkpoint").write_bytes(b"nothing\n\n")
        with pytest.raises(StoreError):
            mirror(url, tmp_path / "copy", cluster.verifier)
    assert not (Layout(tmp_path / "copy").log / "checkpoint").exists()
    assert node.size == 0


# -- the real command --------------------------------------------------------------------------------------------------


def test_the_command_survives_being_killed_between_two_checkpoints(tmp_path: Path) -> None:
    home, policy = tmp_path / "home", tmp_path / "policy"
    node = Node(tmp_path / "node")
    registered = sandtrail("cluster", "register", "--home", home, "--origin", ORIGIN, node.vkey)
    assert (registered.returncode, registered.stdout) == (0, f"registered {node.origin}\n")
    notary = Notary(node.home, policy=policy)
    with running.cluster(home) as first:
        assert first.key.name == ORIGIN
        policy.write_text(first.policy() + "quorum cluster\n")
        node.grow(3)
        assert not notary.round().problem
        second = Node(tmp_path / "second", "example.org/c/second", b"\2" * 32)
        assert sandtrail("cluster", "register", "--home", home, second.vkey).returncode == 0
        assert not Notary(second.home, policy=policy).round().problem
        first.process.kill()
        first.process.wait(60)
        node.grow(300)
        assert "quorum" in notary.round().problem
    with running.cluster(home) as again:
        assert again.cosigners == first.cosigners
        policy.write_text(again.policy() + "quorum cluster\n")
        assert not notary.round().problem
        assert sandtrail("cluster", "retire", "--home", home, second.origin).returncode == 0
        assert httpx.get(f"{again.url}/checkpoint", trust_env=False).status_code == 200
        options = ("--home", tmp_path / "auditor", "--url", again.url, "--node", node.home, "--json")
        elsewhere = sandtrail("cluster", "verify", *options, "--key", again.key.vkey)
        assert elsewhere.returncode == 0, elsewhere.stdout + elsewhere.stderr
        assert sandtrail("cluster", "verify", *options).returncode == 2
    verified = sandtrail("cluster", "verify", "--home", home, "--node", node.home, "--silence", "3600")
    assert verified.returncode == 0, verified.stdout
    assert "303 entries, 2 checkpoints" in verified.stdout
    shutil.rmtree(node.home)
    missing = sandtrail("cluster", "verify", "--home", home, "--node", node.home)
    assert missing.returncode == 1
    assert "node-log-missing" in missing.stdout


def test_the_command_is_witnessed_itself(tmp_path: Path) -> None:
    home, policy = tmp_path / "home", tmp_path / "policy"
    made = ClusterLog(home / "cluster", ORIGIN)
    with witness(tmp_path / "w", "--key", "ed25519", "--log", made.verifier.vkey) as other:
        policy.write_text(other.policy() + "quorum w0\n")
        options = ("cluster", "verify", "--home", home, "--policy", policy, "--max-age", "1h", "--json")
        assert sandtrail(*options).returncode == 1
        with running.cluster(home, "--policy", str(policy), "--every", "0.2") as served:
            node = Node(tmp_path / "node")
            assert sandtrail("cluster", "register", "--home", home, node.vkey).returncode == 0
            deadline = time.monotonic() + 60
            while served.process.poll() is None and time.monotonic() < deadline:
                answer = httpx.get(f"{served.url}/witnessed/checkpoint", trust_env=False)
                if answer.status_code == 200 and open_checkpoint(answer.content, served.key).size == 1:
                    break
                time.sleep(0.05)
            else:
                raise AssertionError("nobody has cosigned it in time")
    verified = sandtrail(*options)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert json.loads(verified.stdout)["witnessed"] == "1 of 1 entries"
    printed = sandtrail("cluster", "key", "--home", home)
    assert printed.stdout.split() == [made.verifier.vkey, *(one.verifier.vkey for one in made.cosigners)]
    mistaken = sandtrail("cluster", "serve", "--home", home, "--policy", tmp_path / "none", "--port", "0")
    assert (mistaken.returncode, mistaken.stdout) == (2, "")


@pytest.mark.needs("foreign-go")
def test_verifiers_that_are_not_ours_take_it_for_good_also_while_it_grows(
    server: ClusterServer, cluster: ClusterLog, node: Node
) -> None:
    heads: list[Checkpoint] = []
    with serving(server.handle) as url:
        for grown in (4, 300, 500):
            fill(cluster, node.vkey, grown)
            head = open_checkpoint(read_checkpoint(Layout(cluster.home).log) or b"", cluster.verifier)
            said = check_log(url, cluster.verifier.vkey, [(head.size, head.root) for head in heads])
            assert said == {"tlog": "", "fsck": "", "size": head.size}
            heads.append(head)
        assert fsck(url, Layout(cluster.home).vkey) == ""
