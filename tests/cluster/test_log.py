"""What a cluster's log takes from nodes, what it answers, and what it keeps as evidence."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sandtrail.cluster.entries import ClusterEntry, decode_entry
from sandtrail.cluster.log import ClusterLog, read_entries
from sandtrail.cluster.verify import verify_cluster
from sandtrail.errors import StoreError, UsageError
from sandtrail.store.cosignature import cosigned_at
from sandtrail.store.keys import load_verifier
from sandtrail.store.layout import Layout
from sandtrail.store.log import read_checkpoint
from sandtrail.store.note import Signer, open_checkpoint, parse_note
from sandtrail.witness.protocol import Refused, encode_request
from tests.cluster.nodes import Node
from tests.store.recording import killed


@pytest.fixture
def cluster(tmp_path: Path) -> ClusterLog:
    return ClusterLog(tmp_path / "cluster", "example.org/c")


@pytest.fixture
def node(tmp_path: Path, cluster: ClusterLog) -> Node:
    node = Node(tmp_path / "node")
    cluster.register([node.vkey])
    return node


def entries(cluster: ClusterLog) -> list[ClusterEntry]:
    """Every signed entry, read back from disk."""
    log = Layout(cluster.home).log
    note = read_checkpoint(log)
    assert note is not None
    head = open_checkpoint(note, load_verifier(cluster.home))
    return [decode_entry(index, data) for index, data in enumerate(read_entries(log, head.size))]


def kinds(cluster: ClusterLog) -> list[str]:
    return [entry.kind for entry in entries(cluster)]


def refusal(cluster: ClusterLog, request: bytes) -> tuple[int, bytes]:
    with pytest.raises(Refused) as caught:
        cluster.submit(request)
    return caught.value.reply.status, caught.value.reply.body


def test_a_checkpoint_is_in_the_signed_log_when_it_is_answered_with_a_cosignature(
    cluster: ClusterLog, node: Node
) -> None:
    node.grow(5)
    line = cluster.submit(node.request())
    assert all(cosigned_at(parse_note(node.note + line), one.verifier) for one in cluster.cosigners)
    node.grow(300)
    cluster.submit(node.request(5))
    assert kinds(cluster) == ["node", "checkpoint", "checkpoint"]
    last = entries(cluster)[-1].map
    assert (last["old"], last["note"], last["origin"]) == (5, node.note, node.origin)


def test_the_same_head_again_is_cosigned_again_but_is_no_sign_of_life(cluster: ClusterLog, node: Node) -> None:
    node.grow(5)
    cluster.submit(node.request())
    heard = cluster.registry.nodes[node.origin].heard
    assert cluster.submit(node.request(5))
    assert kinds(cluster) == ["node", "checkpoint"]
    assert cluster.registry.nodes[node.origin].heard == heard


def test_a_node_that_is_not_registered_is_unknown(cluster: ClusterLog, node: Node, tmp_path: Path) -> None:
    stranger = Node(tmp_path / "stranger", "example.org/c/stranger")
    stranger.grow(1)
    assert refusal(cluster, stranger.request())[0] == 404
    cluster.retire(node.origin)
    node.grow(1)
    assert refusal(cluster, node.request())[0] == 404


def test_a_head_under_another_key_is_refused_and_says_nothing_about_the_node(
    cluster: ClusterLog, node: Node, tmp_path: Path
) -> None:
    node.grow(3)
    cluster.submit(node.request())
    forger = Node(tmp_path / "forger", key=b"\2" * 32)
    forger.grow(3)
    assert refusal(cluster, forger.request(3))[0] == 403
    assert kinds(cluster) == ["node", "checkpoint"]


def test_two_heads_of_one_size_are_kept_as_evidence_once(cluster: ClusterLog, node: Node, tmp_path: Path) -> None:
    node.grow(3)
    cluster.submit(node.request())
    first = node.note
    node.grow(4)
    cluster.submit(node.request(3))
    fork = Node(tmp_path / "fork")
    fork.grow(7)
    assert refusal(cluster, fork.request(7))[0] == 422
    assert refusal(cluster, fork.request(7))[0] == 422
    older = Node(tmp_path / "older")
    older.grow(3)
    assert refusal(cluster, older.request())[0] == 409
    assert kinds(cluster) == ["node", "checkpoint", "checkpoint", "equivocation", "equivocation"]
    *_, newer, of_old_size = entries(cluster)
    assert (newer.map["held"], newer.map["note"]) == (node.note, fork.note)
    assert (of_old_size.map["held"], of_old_size.map["note"]) == (first, older.note)


def test_a_larger_head_that_does_not_follow_is_kept_once_until_the_node_is_heard_again(
    cluster: ClusterLog, node: Node, tmp_path: Path
) -> None:
    node.grow(3)
    cluster.submit(node.request())
    fork = Node(tmp_path / "fork")
    fork.grow(9)
    for _ in range(2):
        assert refusal(cluster, fork.request(3))[0] == 422
    assert kinds(cluster)[2:] == ["refused"]
    assert entries(cluster)[-1].map["note"] == fork.note
    node.grow(1)
    cluster.submit(node.request(3))
    assert refusal(cluster, encode_request(4, [], fork.note))[0] == 422
    assert kinds(cluster)[2:] == ["refused", "checkpoint", "refused"]


def test_a_log_that_was_rolled_back_hears_how_far_it_once_was(cluster: ClusterLog, node: Node) -> None:
    node.grow(3)
    before = node.request()
    node.grow(5)
    cluster.submit(node.request())
    assert refusal(cluster, before) == (409, b"8\n")


@pytest.mark.parametrize("body", [b"", b"old 0\n\n", b"old x\n\nnote", b"old 0\n\nx\n1\nAAAA\n\n\xff\n"])
def test_what_is_no_request_is_refused(cluster: ClusterLog, body: bytes) -> None:
    assert refusal(cluster, body)[0] == 400


def test_a_note_that_would_not_fit_an_entry_is_refused(cluster: ClusterLog, node: Node) -> None:
    node.grow(1)
    other = Signer("x" * 900, b"\3" * 32).sign(node.note.partition(b"\n\n")[0].decode() + "\n").partition(b"\n\n")[2]
    assert refusal(cluster, node.request() + other * 30)[0] == 400


def test_what_another_process_has_logged_is_known_to_all(cluster: ClusterLog, node: Node, tmp_path: Path) -> None:
    other = ClusterLog(cluster.home)
    node.grow(3)
    other.submit(node.request())
    second = Node(tmp_path / "second", "example.org/c/second", b"\2" * 32)
    other.register([second.vkey])
    second.grow(1)
    cluster.submit(second.request())
    assert refusal(cluster, node.request())[0] == 409


def test_an_answer_survives_the_death_of_the_one_who_gave_it(cluster: ClusterLog, node: Node) -> None:
    node.grow(3)
    killed(lambda: ClusterLog(cluster.home).submit(node.request()))
    assert refusal(ClusterLog(cluster.home), node.request()) == (409, b"3\n")


def test_many_at_once_are_taken_one_after_the_other(cluster: ClusterLog, tmp_path: Path) -> None:
    nodes = [Node(tmp_path / str(n), f"example.org/c/{n}", bytes([n]) * 32) for n in range(6)]
    for node in nodes:
        cluster.register([node.vkey])
        node.grow(2)
    writers = [cluster, ClusterLog(cluster.home)]
    threads = [threading.Thread(target=writers[n % 2].submit, args=(node.request(),)) for n, node in enumerate(nodes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kinds(cluster) == ["node"] * 6 + ["checkpoint"] * 6
    assert {entry.map["origin"] for entry in entries(cluster)[6:]} == {node.origin for node in nodes}


def test_a_node_is_registered_once_and_its_key_changes_only_after_it_was_retired(
    cluster: ClusterLog, node: Node
) -> None:
    cluster.register([node.vkey])
    assert kinds(cluster) == ["node"]
    other = Signer(node.origin, b"\7" * 32).verifier.vkey
    with pytest.raises(UsageError, match="retire it first"):
        cluster.register([other])
    cluster.retire(node.origin)
    with pytest.raises(UsageError, match="not registered"):
        cluster.retire(node.origin)
    cluster.register([other])
    assert [entry.map["retired"] for entry in entries(cluster)] == [False, True, False]


def test_a_new_key_does_not_make_a_new_log(cluster: ClusterLog, node: Node, tmp_path: Path) -> None:
    node.grow(5)
    cluster.submit(node.request())
    cluster.retire(node.origin)
    rebuilt = Node(tmp_path / "rebuilt", key=b"\7" * 32)
    cluster.register([rebuilt.vkey])
    rebuilt.grow(1)
    assert refusal(cluster, rebuilt.request()) == (409, b"5\n")


@pytest.mark.parametrize("keys", [[], ["no key"], ["a", "b", "c"]])
def test_what_is_no_key_is_not_registered(cluster: ClusterLog, keys: list[str]) -> None:
    with pytest.raises(UsageError):
        cluster.register(keys)


def test_an_epoch_key_under_another_name_is_not_registered(cluster: ClusterLog) -> None:
    keys = [Signer(name, b"\1" * 32).verifier.vkey for name in ("a/b", "a/c/epoch")]
    with pytest.raises(UsageError, match="another name"):
        cluster.register(keys)
    cluster.register([keys[0], Signer("a/b/epoch", b"\1" * 32).verifier.vkey])


def test_a_node_that_sends_nothing_new_is_logged_as_silent_once(tmp_path: Path) -> None:
    cluster = ClusterLog(tmp_path / "cluster", silence=0.0)
    node = Node(tmp_path / "node")
    cluster.register([node.vkey])
    assert cluster.watch() == [node.origin]
    assert cluster.watch() == []
    node.grow(2)
    cluster.submit(node.request())
    assert cluster.watch() == [node.origin]
    cluster.retire(node.origin)
    assert cluster.watch() == []
    assert kinds(cluster) == ["node", "silence", "checkpoint", "silence", "node"]
    said = entries(cluster)
    assert (said[1].map["since"], said[1].map["size"]) == (list(said[0].at), 0)
    assert (said[3].map["since"], said[3].map["size"]) == (list(said[2].at), 2)


def test_nobody_is_silent_who_could_not_have_been_heard(tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    ClusterLog(tmp_path / "cluster").register([node.vkey])
    assert ClusterLog(tmp_path / "cluster", silence=300.0).watch() == []


def test_a_node_cannot_fill_the_log(tmp_path: Path) -> None:
    cluster = ClusterLog(tmp_path / "cluster", pause=3600.0)
    node = Node(tmp_path / "node")
    cluster.register([node.vkey])
    node.grow(1)
    cluster.submit(node.request())
    cluster.submit(node.request(1))
    node.grow(1)
    assert refusal(cluster, node.request(1))[0] == 429
    assert kinds(cluster) == ["node", "checkpoint"]
    ClusterLog(cluster.home).submit(node.request(1))


def test_a_log_keeps_its_name_and_its_key(cluster: ClusterLog) -> None:
    with pytest.raises(UsageError, match="is example.org/c"):
        ClusterLog(cluster.home, "example.org/d")
    (cluster.home / "keys" / "log.key").unlink()
    with pytest.raises(StoreError, match="has no key"):
        ClusterLog(cluster.home)


def test_the_newest_head_of_a_node_is_found_by_the_hash_of_its_name(cluster: ClusterLog, node: Node) -> None:
    digest = sha256(node.origin.encode()).hexdigest()
    assert cluster.head_of(digest) is None
    node.grow(2)
    cluster.submit(node.request())
    found = cluster.head_of(digest)
    assert found is not None
    assert open_checkpoint(found, node.signer.verifier).size == 2
    assert all(cosigned_at(parse_note(found), one.verifier) for one in cluster.cosigners)


def submit_and_tell(cluster: Path, node: Node, pipe: int) -> None:
    """Submit the node's growing log for ever, and tell the size of each checkpoint that was answered."""
    log = ClusterLog(cluster)
    size = log.registry.nodes[node.origin].size
    while True:
        node.grow(1)
        log.submit(node.request(size))
        size = node.size
        os.write(pipe, struct.pack(">Q", size))


@pytest.mark.parametrize("answers", [1, 2, 3, 5, 9])
def test_killed_at_any_moment_it_has_what_it_has_answered(cluster: ClusterLog, node: Node, answers: int) -> None:
    told = 0
    for _ in range(3):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                submit_and_tell(cluster.home, node, writer)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            for _ in range(answers):
                (told,) = struct.unpack(">Q", pipe.read(8))
            time.sleep(told % 7 / 1000)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            while more := pipe.read(8):
                (told,) = struct.unpack(">Q", more)
        after = ClusterLog(cluster.home).registry.nodes[node.origin]
        assert told <= after.size <= node.size
        assert verify_cluster(cluster.home, homes=[node.home], key=cluster.verifier.vkey).ok
    assert entries(cluster)[-1].kind == "checkpoint"


@pytest.mark.parametrize("call", ["fsync", "rename", "write"])
def test_after_any_failing_call_to_the_disk_it_goes_on_with_what_it_has_answered(
    cluster: ClusterLog, node: Node, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    # The names of the writer's calls to the disk: os.fsync and os.write, and Path.rename.
    place = Path if call == "rename" else os
    real = getattr(place, call)
    node.grow(1)
    cluster.submit(node.request())
    for failing in range(40):
        size = node.size
        node.grow(1)
        request = node.request(size)
        calls = itertools.count()

        def broken(*arguments: Any, failing: int = failing, calls: Iterator[int] = calls) -> Any:
            if next(calls) == failing:
                raise OSError(errno.EIO, "the disk fails")
            return real(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(place, call, broken)
            try:
                cluster.submit(request)
            except (OSError, StoreError) as error:
                failed = not isinstance(error, Refused)
            else:
                failed = False
        try:
            cluster.submit(request)
        except Refused as refused:
            # Stored all the same, or answered already: as to any witness, the node asks again from there.
            assert refused.reply.body == b"%d\n" % node.size  # noqa: PT017  # how it ends otherwise is checked below
            cluster.submit(node.request(node.size))
        assert verify_cluster(cluster.home, homes=[node.home], key=cluster.verifier.vkey).ok
        if not failed and next(calls) <= failing:
            break
    else:
        raise AssertionError("a submission does not end")
    assert failing > 1
    assert kinds(cluster) == ["node"] + ["checkpoint"] * (failing + 2)
