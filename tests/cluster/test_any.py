"""Whatever nodes do in whatever order, a cluster's log that took it is verified; and whatever byte of it changes is
found."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandtrail.cluster.log import ClusterLog
from sandtrail.cluster.verify import verify_cluster
from sandtrail.errors import UsageError
from sandtrail.witness.protocol import Refused, encode_request
from tests.cluster.nodes import Node

ACTS = ("register", "retire", "grow", "grow", "again", "fork", "bad proof", "rolled back", "silence", "open")


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 1), st.integers(1, 5)), max_size=12))
def test_what_the_writer_has_taken_the_verifier_takes_too(acts: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        cluster = ClusterLog(home / "cluster", silence=0.0)
        nodes = [Node(home / f"node{n}", f"example.org/{n}", bytes([n + 1]) * 32) for n in range(2)]
        forks = [Node(home / f"fork{n}", f"example.org/{n}", bytes([n + 1]) * 32) for n in range(2)]
        shown: list[dict[int, bytes]] = [{}, {}]
        for act, which, count in acts:
            node, fork = nodes[which], forks[which]
            known = cluster.registry.nodes.get(node.origin)
            size = known.size if known else 0
            try:
                match act:
                    case "register":
                        cluster.register([node.vkey])
                    case "retire":
                        cluster.retire(node.origin)
                    case "grow":
                        node.grow(count)
                        cluster.submit(node.request(size))
                        shown[which][node.size] = node.note
                    case "again":
                        cluster.submit(node.request(node.size))
                    case "fork":
                        fork.grow(count)
                        cluster.submit(fork.request(min(size, fork.size)))
                        shown[which][fork.size] = fork.note
                    case "bad proof":
                        cluster.submit(encode_request(size, [b"p" * 32], node.grow(count)))
                    case "rolled back":
                        for note in shown[which].values():
                            cluster.submit(encode_request(size, [], note))
                    case "silence":
                        cluster.watch()
                    case _:
                        cluster = ClusterLog(home / "cluster", silence=0.0)
            except (Refused, UsageError):
                continue
        report = verify_cluster(home / "cluster", key=cluster.verifier.vkey)
        assert {finding.step for finding in report.findings} <= {14}, report.findings
        for node in nodes:
            found = report.nodes.get(node.origin)
            assert found is None or found["size"] == cluster.registry.nodes[node.origin].size


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A log with entries of every kind."""
    folder = tmp_path_factory.mktemp("cluster")
    cluster = ClusterLog(folder / "cluster", silence=0.0)
    node, fork = Node(folder / "node"), Node(folder / "fork")
    for _ in range(2):
        cluster.register([node.vkey])
        size = node.size
        node.grow(3)
        cluster.submit(node.request(size))
        fork.grow(3)
        with pytest.raises(Refused):  # the first time it has the size of the other, and proves itself a fork
            cluster.submit(fork.request(fork.size))
        fork.grow(1)
        with pytest.raises(Refused):
            cluster.submit(encode_request(node.size, [b"p" * 32], fork.note))
        cluster.watch()
        cluster.retire(node.origin)
    return cluster.home, cluster.verifier.vkey


def test_every_kind_of_entry_is_there(grown: tuple[Path, str]) -> None:
    facts = verify_cluster(grown[0], key=grown[1]).nodes["example.org/c/node"]
    assert (facts["checkpoints"], facts["equivocations"], facts["refused"], facts["silences"]) == (2, 1, 2, 2)


@pytest.mark.parametrize("seed", range(40))
def test_any_changed_byte_is_found(grown: tuple[Path, str], tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    home = tmp_path / "cluster"
    shutil.copytree(grown[0], home)
    before = verify_cluster(home, key=grown[1])
    files = sorted(path for path in (home / "log").rglob("*") if path.is_file() and path.name != "lock")
    path = files[seed % len(files)]
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    report = verify_cluster(home, key=grown[1])
    assert {finding.step for finding in report.findings} - {14}, path
    assert before.size == report.size or path.name == "checkpoint"
