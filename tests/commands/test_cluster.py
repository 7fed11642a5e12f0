"""`sandtrail cluster verify`, as it is called."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sandtrail.cluster.log import ClusterLog
from sandtrail.store.layout import Layout
from tests.cluster.nodes import Node
from tests.inside import sandtrail


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a cluster's log knows of one node."""
    monkeypatch.setenv("SANDTRAIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    cluster = ClusterLog(tmp_path / "home" / "cluster", "example.org/c")
    node = Node(tmp_path / "node")
    cluster.register([node.vkey])
    node.grow(3)
    cluster.submit(node.request())
    return cluster.home


def test_it_says_what_was_not_checked(home: Path, tmp_path: Path) -> None:
    done = sandtrail("cluster", "verify")
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("3: ", "12, witnesses: ", "15, nodes' logs: no node's log was given"):
        assert f"not checked: step {words}" in done.stdout.replace("3, remembered head", "3")
    assert "node      example.org/c/node: 3 entries, 1 checkpoints" in done.stdout
    assert done.stdout.endswith("verified\n")
    done = sandtrail("cluster", "verify", "--node", tmp_path / "node")
    assert (done.returncode, "step 15" in done.stdout) == (0, False)
    (Layout(home).log / "tile/entries/000.p/2").write_bytes(b"?")
    done = sandtrail("cluster", "verify")
    assert done.returncode == 1
    assert "not checked: step 14, nodes: the entries that tell of the nodes cannot all be trusted" in done.stdout
    assert "findings; what this log says of the nodes was not judged" in done.stdout


def test_it_counts_what_it_finds_beyond_the_cap(home: Path, tmp_path: Path) -> None:
    options = ["cluster", "verify", "--node", str(tmp_path / "node")]
    for number in range(1003):
        options += ["--checkpoint", str(tmp_path / f"none{number}")]
    done = sandtrail(*options)
    assert done.returncode == 1
    assert done.stdout.count("✗ step 15: node-log-missing at") == 1000
    assert "✗ node-log-missing: 3 more\n" in done.stdout
    assert "NOT verified: 1003 findings; every entry of this log is what was signed" in done.stdout
    said = json.loads(sandtrail(*options, "--json").stdout)
    assert (said["ok"], said["more"]) == (False, {"node-log-missing": 3})
    assert Counter(finding["type"] for finding in said["findings"]) == {"node-log-missing": 1000}
    assert said["standing"].startswith("every entry of this log is what was signed")
