"""What `verify` says about a cluster's log and about the nodes' logs that should be there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandtrail.cluster.entries import encode_entry
from sandtrail.cluster.log import ClusterLog
from sandtrail.cluster.verify import ClusterReport, verify_cluster
from sandtrail.errors import NotFoundError, UsageError
from sandtrail.store.cosignature import Ed25519Cosigner
from sandtrail.store.heads import remember_head
from sandtrail.store.keyfile import read_private
from sandtrail.store.layout import Layout, publish
from sandtrail.store.log import Log, read_checkpoint
from sandtrail.store.merkle import tree_root
from sandtrail.store.note import Checkpoint, Signer, parse_note
from sandtrail.store.policy import parse_policy
from sandtrail.witness.protocol import Refused
from tests.cluster.nodes import Node

CLUSTER = "example.org/c"
WITNESS = Ed25519Cosigner("witness.example", b"\5" * 32)
POLICY = parse_policy(f"witness w {WITNESS.verifier.vkey}\nquorum w\n".encode())


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterLog:
    return ClusterLog(tmp_path / "cluster", CLUSTER)


@pytest.fixture
def nodes(tmp_path: Path, cluster: ClusterLog) -> list[Node]:
    """Three nodes, each with two logged checkpoints (of 3 and of 8 entries)."""
    found = [Node(tmp_path / f"node{n}", f"{CLUSTER}/{n}", bytes([n + 1]) * 32) for n in range(3)]
    for node in found:
        cluster.register([node.vkey])
        node.grow(3)
        cluster.submit(node.request())
        node.grow(5)
        cluster.submit(node.request(3))
    return found


def homes(nodes: list[Node]) -> list[Path]:
    return [node.home for node in nodes]


def found(report: ClusterReport) -> list[tuple[int, str]]:
    return [(finding.step, finding.type) for finding in report.findings]


def verify(cluster: ClusterLog, **options: Any) -> ClusterReport:
    return verify_cluster(cluster.home, **options)


def append(cluster: ClusterLog, kind: str, **fields: Any) -> None:
    """Sign an entry without asking the rules, as somebody who has stolen the cluster's key could."""
    signer = Signer(cluster.origin, read_private(cluster.home / "keys" / "log.key"))
    log = Log(cluster.home, signer)
    log.append(encode_entry(kind, **fields))
    log.publish()
    log.close()


def test_a_cluster_whose_nodes_are_all_there_is_verified(cluster: ClusterLog, nodes: list[Node]) -> None:
    for node in nodes:
        node.grow(2)
    report = verify(cluster, homes=homes(nodes), silence=300, key=cluster.verifier.vkey)
    assert report.ok, report.findings
    assert (report.size, report.key_from) == (9, "given")
    assert {origin: facts["size"] for origin, facts in report.nodes.items()} == {node.origin: 8 for node in nodes}
    unchecked = [step["step"] for step in report.as_dict()["steps"] if step["state"] != "passed"]
    assert unchecked == [3, 12]


def test_a_log_that_has_no_entries_yet_is_verified(cluster: ClusterLog) -> None:
    assert verify(cluster).ok


# -- the nodes' logs ---------------------------------------------------------------------------------------------------


def test_a_node_log_that_is_gone_as_a_whole_is_found(cluster: ClusterLog, nodes: list[Node]) -> None:
    shutil.rmtree(nodes[1].home)
    assert found(verify(cluster, homes=[nodes[0].home, nodes[2].home])) == [(15, "node-log-missing")]
    report = verify(cluster, homes=homes(nodes))
    assert found(report) == [(15, "node-log-missing")] * 2
    assert report.standing.startswith("every entry of this log is what was signed")
    cluster.retire(nodes[1].origin)
    assert verify(cluster, homes=[nodes[0].home, nodes[2].home]).ok


def test_a_node_log_that_was_put_back_to_an_older_state_is_found(
    cluster: ClusterLog, nodes: list[Node], tmp_path: Path
) -> None:
    shutil.copytree(nodes[0].home, tmp_path / "older")
    nodes[0].grow(1)
    cluster.submit(nodes[0].request(8))
    shutil.rmtree(nodes[0].home)
    shutil.copytree(tmp_path / "older", nodes[0].home)
    report = verify(cluster, homes=homes(nodes))
    assert found(report) == [(15, "node-log-rolled-back")]
    assert "9 entries" in report.findings[0].consequence


def test_a_node_log_that_was_written_anew_is_found_though_it_is_well_signed(
    cluster: ClusterLog, nodes: list[Node], tmp_path: Path
) -> None:
    for entries, kind in ((8, "node-log-forked"), (300, "node-log-forked"), (7, "node-log-rolled-back")):
        other = Node(tmp_path / f"other{entries}", nodes[0].origin, b"\1" * 32)
        other.grow(entries)
        assert found(verify(cluster, homes=[other.home, *homes(nodes)[1:]])) == [(15, kind)]


def test_a_node_log_under_another_key_is_found(cluster: ClusterLog, nodes: list[Node], tmp_path: Path) -> None:
    other = Node(tmp_path / "other", nodes[0].origin, b"\7" * 32)
    other.grow(9)
    assert found(verify(cluster, homes=[other.home, *homes(nodes)[1:]])) == [(15, "node-log-unsigned")]


def test_a_node_log_whose_tiles_are_gone_cannot_be_compared(cluster: ClusterLog, nodes: list[Node]) -> None:
    (nodes[0].home / "log/tile/0/000.p/8").unlink()
    assert found(verify(cluster, homes=homes(nodes))) == [(15, "node-log-damaged")]


def test_a_node_log_that_nobody_has_registered_is_found(cluster: ClusterLog, nodes: list[Node], tmp_path: Path) -> None:
    stranger = Node(tmp_path / "stranger", f"{CLUSTER}/stranger", b"\7" * 32)
    assert found(verify(cluster, homes=[*homes(nodes), stranger.home])) == [(15, "node-unregistered")]


def test_checkpoints_alone_show_what_they_can(cluster: ClusterLog, nodes: list[Node], tmp_path: Path) -> None:
    heads = [Layout(node.home).checkpoint for node in nodes]
    assert verify(cluster, checkpoints=heads).ok
    assert found(verify(cluster, checkpoints=heads[1:])) == [(15, "node-log-missing")]
    for entries, kinds in ((2, [(15, "node-log-rolled-back")]), (8, [(15, "node-log-forked")]), (9, [])):
        other = Node(tmp_path / f"other{entries}", nodes[0].origin, b"\1" * 32)
        other.grow(entries)
        report = verify(cluster, checkpoints=[Layout(other.home).checkpoint, *heads[1:]])
        assert found(report) == kinds
        assert bool(report.remarks) == (entries == 9)


def test_a_node_that_contradicts_itself_is_found(cluster: ClusterLog, nodes: list[Node], tmp_path: Path) -> None:
    fork = Node(tmp_path / "fork", nodes[0].origin, b"\1" * 32)
    fork.grow(8)
    with pytest.raises(Refused):
        cluster.submit(fork.request(8))
    report = verify(cluster, homes=homes(nodes))
    assert found(report) == [(14, "node-equivocated")]
    assert report.findings[0].place == "log entry 9"


def test_a_node_in_doubt_is_found_until_it_goes_on(cluster: ClusterLog, nodes: list[Node], tmp_path: Path) -> None:
    fork = Node(tmp_path / "fork", nodes[0].origin, b"\1" * 32)
    fork.grow(11)
    with pytest.raises(Refused):
        cluster.submit(fork.request(8))
    assert found(verify(cluster)) == [(14, "node-in-doubt")]
    nodes[0].grow(1)
    cluster.submit(nodes[0].request(8))
    report = verify(cluster)
    assert report.ok
    assert report.nodes[nodes[0].origin]["refused"] == 1


def test_a_silent_node_is_found_whether_or_not_the_log_says_so(tmp_path: Path) -> None:
    cluster = ClusterLog(tmp_path / "cluster", CLUSTER, silence=0.0)
    node = Node(tmp_path / "node")
    cluster.register([node.vkey])
    assert verify(cluster, silence=300).ok
    assert found(verify(cluster, silence=300, now=time.time() + 301)) == [(14, "node-silent")]
    cluster.watch()
    assert found(verify(cluster)) == [(14, "node-silent")]
    node.grow(1)
    cluster.submit(node.request())
    report = verify(cluster, silence=300)
    assert report.ok
    assert report.nodes[node.origin]["silences"] == 1
    cluster.watch()
    cluster.retire(node.origin)
    assert verify(cluster, silence=300, now=time.time() + 301).ok


# -- the cluster's log itself ------------------------------------------------------------------------------------------


@pytest.fixture
def witnessed(cluster: ClusterLog, nodes: list[Node]) -> Path:
    """The cluster's log as it is now, cosigned by a witness."""
    return cosign(cluster, int(time.time()))


def cosign(cluster: ClusterLog, at: int) -> Path:
    note = read_checkpoint(Layout(cluster.home).log)
    assert note is not None
    path = Layout(cluster.home).witnessed / "checkpoint"
    publish(path, note + WITNESS.line(parse_note(note).text, at))
    return path


@pytest.mark.usefixtures("witnessed")
def test_a_witnessed_log_is_verified_also_when_it_has_grown(cluster: ClusterLog, nodes: list[Node]) -> None:
    nodes[0].grow(1)
    cluster.submit(nodes[0].request(8))
    report = verify(cluster, policy=POLICY, max_age=600)
    assert report.ok, report.findings
    assert report.witnessed == "9 of 10 entries"


def test_a_log_without_a_recent_cosignature_is_not_witnessed(cluster: ClusterLog, witnessed: Path) -> None:
    for at in (int(time.time()) - 700, int(time.time()) + 700):
        cosign(cluster, at)
        assert found(verify(cluster, policy=POLICY, max_age=600)) == [(12, "not-witnessed")]
    cosign(cluster, int(time.time()) - 700)
    assert verify(cluster, policy=POLICY).ok
    witnessed.unlink()
    assert found(verify(cluster, policy=POLICY)) == [(12, "not-witnessed")]
    publish(witnessed, read_checkpoint(Layout(cluster.home).log) or b"")
    assert found(verify(cluster, policy=POLICY)) == [(12, "not-witnessed")]


def copy(cluster: ClusterLog, to: Path) -> Path:
    shutil.copytree(cluster.home / "log", to)
    return to


@pytest.mark.usefixtures("nodes")
def test_a_log_that_was_cut_back_differs_from_what_witnesses_saw_and_from_what_is_remembered(
    cluster: ClusterLog, nodes: list[Node], tmp_path: Path
) -> None:
    older = copy(cluster, tmp_path / "older")
    nodes[0].grow(1)
    cluster.submit(nodes[0].request(8))
    cosign(cluster, int(time.time()))
    remember_head(cluster.home)
    shutil.rmtree(cluster.home / "log")
    shutil.copytree(older, cluster.home / "log")
    kinds = [(3, "rolled-back"), (12, "witness-conflict")]
    assert found(verify(cluster, policy=POLICY)) == kinds
    assert found(verify(cluster, homes=homes(nodes))) == kinds


@pytest.mark.usefixtures("witnessed")
def test_a_log_that_was_written_anew_differs_from_what_witnesses_saw_and_from_what_is_remembered(
    cluster: ClusterLog, nodes: list[Node]
) -> None:
    remember_head(cluster.home)
    shutil.rmtree(cluster.home / "log")
    (cluster.home / "log").mkdir()
    anew = ClusterLog(cluster.home)
    for _ in range(2):
        for node in nodes:
            anew.register([node.vkey])
            anew.retire(node.origin)
            anew.register([node.vkey])
    assert found(verify(anew, policy=POLICY)) == [(3, "history-rewritten"), (12, "witness-conflict")]


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], list[tuple[int, str]]]] = {
    "checkpoint gone": (lambda home: (home / "log/checkpoint").unlink(), [(2, "checkpoint-missing")]),
    "checkpoint changed": (lambda home: flip(home / "log/checkpoint", 20), [(2, "checkpoint-unsigned")]),
    "entry changed": (lambda home: flip(home / "log/tile/entries/000.p/9", 300), [(4, "entry-changed")]),
    "entries gone": (lambda home: (home / "log/tile/entries/000.p/9").unlink(), [(4, "bundle-damaged")]),
    "tile changed": (lambda home: flip(home / "log/tile/0/000.p/9", 40), [(4, "tile-damaged")]),
    "tile gone": (lambda home: (home / "log/tile/0/000.p/9").unlink(), [(4, "tile-missing")]),
    "key gone": (lambda home: (home / "keys/log.vkey").unlink(), [(1, "key-damaged")]),
}
STANDING = {
    "checkpoint-missing": "nothing in this log can be trusted",
    "checkpoint-unsigned": "nothing in this log can be trusted",
    "entry-changed": "what this log says of the nodes was not judged",
    "bundle-damaged": "what this log says of the nodes was not judged",
    "tile-damaged": "every entry of this log is what was signed",
    "tile-missing": "every entry of this log is what was signed",
    "key-damaged": "every entry of this log is what was signed",
}


@pytest.mark.usefixtures("nodes")
@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_where_it_is(cluster: ClusterLog, what: str) -> None:
    damage, kinds = DAMAGE[what]
    damage(cluster.home)
    report = verify(cluster, key=cluster.verifier.vkey)
    assert found(report) == kinds
    assert report.standing.startswith(STANDING[kinds[0][1]])


@pytest.mark.usefixtures("nodes")
def test_a_key_that_was_replaced_is_found(cluster: ClusterLog, tmp_path: Path) -> None:
    other = ClusterLog(tmp_path / "other", CLUSTER)
    report = verify(other, key=cluster.verifier.vkey)
    assert found(report) == [(1, "key-replaced"), (2, "checkpoint-unsigned")]


def test_entries_that_break_the_rules_are_found_though_the_key_has_signed_them(
    cluster: ClusterLog, nodes: list[Node], tmp_path: Path
) -> None:
    def wrong(kind: str, **fields: Any) -> str:
        home = tmp_path / f"{kind}-{time.monotonic_ns()}"
        shutil.copytree(cluster.home, home)
        append(copied := ClusterLog(home), kind, **fields)
        report = verify(copied)
        assert found(report) == [(6, "entry-wrong")]
        assert report.findings[0].affected.entries == (9, 9)
        return report.findings[0].consequence

    node = nodes[0]
    sent = {"origin": node.origin, "old": 8, "proof": [], "note": node.note}
    assert "has 8 entries" in wrong("checkpoint", **sent)
    grown = {**sent, "note": node.grow(1)}
    assert "proof" in wrong("checkpoint", **grown)
    assert "goes on from 3" in wrong("checkpoint", **{**grown, "old": 3})
    assert "no good signature" in wrong("checkpoint", **{**grown, "note": nodes[1].note})
    assert "not registered" in wrong("checkpoint", **{**grown, "origin": "example.org/none"})
    assert "no reason" in wrong("refused", **sent)
    assert "contradict" in wrong("equivocation", origin=node.origin, held=node.note, note=node.note)
    assert "last sign of life" in wrong("silence", origin=node.origin, since=[1, 2, 3], size=8)
    vkey = Signer(node.origin, b"\7" * 32).verifier.vkey
    facts = {"origin": node.origin, "identity": vkey, "first_epoch": None}
    assert "registered already" in wrong("node", **facts, retired=False)
    assert "other keys" in wrong("node", **facts, retired=True)
    assert "another name" in wrong("node", **{**facts, "origin": "example.org/x"}, retired=False)
    assert "verifier key" in wrong("node", **{**facts, "identity": "x"}, retired=False)


def test_an_entry_of_no_known_form_is_found(cluster: ClusterLog) -> None:
    signer = Signer(cluster.origin, read_private(cluster.home / "keys" / "log.key"))
    log = Log(cluster.home, signer)
    log.append(b"something else")
    log.publish()
    log.close()
    assert found(verify_cluster(cluster.home)) == [(6, "entry-malformed")]


def test_a_signed_root_that_no_entries_lead_to_is_found(cluster: ClusterLog) -> None:
    signer = Signer(cluster.origin, read_private(cluster.home / "keys" / "log.key"))
    publish(cluster.home / "log/checkpoint", signer.sign(Checkpoint(cluster.origin, 5, tree_root([b"x" * 32])).body))
    assert found(verify_cluster(cluster.home))[0] == (4, "root-mismatch")


def test_what_is_no_cluster_cannot_be_checked(tmp_path: Path, cluster: ClusterLog) -> None:
    with pytest.raises(NotFoundError):
        verify_cluster(tmp_path / "nothing")
    with pytest.raises(UsageError):
        verify_cluster(cluster.home, key="no key")
    with pytest.raises(UsageError):
        verify_cluster(cluster.home, head=tmp_path / "nothing")
