"""Everything at once: a node that records, three witnesses of which two are enough, the cluster's log, and verify."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sandtrail.cluster.verify import ClusterReport, verify_cluster
from sandtrail.store.keys import load_pins
from sandtrail.store.layout import Layout
from sandtrail.store.policy import load_policy
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from sandtrail.store.verify import Report, verify
from sandtrail.witness.notary import Notary
from tests.cluster import running
from tests.inside import sandtrail
from tests.witness import running as witnesses


@contextmanager
def recording(home: Path) -> Iterator[Callable[[int], object]]:
    """A node that records in this process; what is yielded writes so many frames."""
    sealer = Sealer(home)
    ended = threading.Event()
    thread = threading.Thread(target=lambda: sealer.run(ended.is_set))
    writer = SpoolWriter(home, "source")
    stream = writer.open({"source": "test"})
    thread.start()
    try:
        yield lambda count: stream.write_many([b"frame %d" % n for n in range(count)])
    finally:
        stream.close("done")
        ended.set()
        thread.join()
        sealer.stop()


@pytest.mark.timeout(300)
def test_a_recording_is_witnessed_and_logged_while_a_witness_is_down_and_nothing_of_it_can_vanish(
    store: Path, tmp_path: Path
) -> None:
    policy, home = tmp_path / "policy", tmp_path / "cluster"
    with ExitStack() as stack:
        with recording(store) as record:
            identity, epoch = load_pins(store)
            assert epoch is not None
            assert sandtrail("cluster", "register", "--home", home, identity.vkey, epoch.vkey).returncode == 0
            served = stack.enter_context(running.cluster(home))
            others = []
            for number in range(3):
                options = ("--key", "ed25519", "--log", identity.vkey, "--log", served.key.vkey)
                others.append(stack.enter_context(witnesses.witness(tmp_path / f"w{number}", *options)))
            lines = [one.policy().replace("w0", f"w{number}", 1) for number, one in enumerate(others)]
            quorum = "group witnesses 2 w0 w1 w2\ngroup both all witnesses cluster\nquorum both\n"
            policy.write_text("".join(lines) + served.policy() + quorum)
            notary = Notary(store, policy=policy)
            record(1000)
            assert not (found := notary.round()).problem, found
            others[0].process.kill()
            record(1000)
            assert not (found := notary.round()).problem, found
            assert list(found.failed) == ["w0"]
            others[1].process.kill()
            record(1000)
            assert "quorum" in notary.round().problem
        # What is signed at the very end is witnessed too, once there are enough of them again.
        again = stack.enter_context(
            witnesses.witness(tmp_path / "w1", "--log", identity.vkey, "--log", served.key.vkey)
        )
        lines[1] = again.policy().replace("w0", "w1", 1)
        policy.write_text("".join(lines) + served.policy() + quorum)
        assert not (found := notary.round()).problem, found
        own = tmp_path / "own-policy"
        own.write_text("".join(lines) + "group witnesses 2 w0 w1 w2\nquorum witnesses\n")
        assert not Notary(home / "cluster", policy=own).round().problem

    def check() -> tuple[Report, ClusterReport]:
        one = verify(store, keys=[identity.vkey, epoch.vkey], policy=load_policy(policy), max_age=600)
        both = load_policy(own)
        return one, verify_cluster(
            home / "cluster", key=served.key.vkey, policy=both, max_age=600, silence=600, homes=[store]
        )

    one, all_of_them = check()
    assert one.ok, one.findings
    assert one.frames == 3002
    assert all_of_them.ok, all_of_them.findings
    assert all_of_them.nodes[identity.name]["checkpoints"] >= 2
    assert all_of_them.nodes[identity.name]["size"] == one.size
    shutil.move(store / "log", tmp_path / "log")
    Layout(store).log.mkdir()
    assert [finding.type for finding in check()[1].findings] == ["node-log-missing"] * 2
    shutil.rmtree(store)
    Sealer(store).stop()
    one, all_of_them = check()
    assert not one.ok
    assert [finding.type for finding in all_of_them.findings] == ["node-log-unsigned"]
