"""The landing: batches as the kernel delivered them, and a successor that finds them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandtrail.collector.landing import BATCH, SLOT, Landing, create_landing
from sandtrail.errors import UsageError
from sandtrail.store.frames import Stamp
from tests.collector.sentry import enlarge

WHEN = Stamp(1, 2, 3)
SPOOL = Path("/somewhere/receiver.1.spool")


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = create_landing(tmp_path)
    yield fd
    os.close(fd)


@pytest.fixture
def landing(fd: int) -> Landing:
    landing = Landing(fd)
    landing.prepare()
    landing.aim(5, True, 7, 9, 10, SPOOL, 11, WHEN)
    return landing


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(sender, receiver)"""
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with theirs, ours:
        yield theirs, ours


Pair = tuple[socket.socket, socket.socket]


def payloads(landing: Landing, lengths: list[int]) -> list[bytes]:
    return [bytes(landing.payload(slot, length)) for slot, length in enumerate(lengths)]


def test_a_batch_is_what_was_sent(landing: Landing, pair: Pair) -> None:
    theirs, ours = pair
    sent = [b"one", b"", b"three" * 1000]
    for data in sent:
        theirs.send(data)
    lengths, ended = landing.receive(ours.fileno())
    assert (payloads(landing, lengths), ended) == (sent, False)
    assert landing.column(0, 1) == b"o"
    landing.done()
    assert landing.receive(ours.fileno()) == ([], False)


def test_more_than_a_batch_comes_in_several(landing: Landing, pair: Pair) -> None:
    theirs, ours = pair
    for number in range(BATCH + 8):
        theirs.send(b"%d" % number)
    theirs.close()
    got = []
    ended = False
    while not ended:
        lengths, ended = landing.receive(ours.fileno())
        got += payloads(landing, lengths)
        landing.done()
    assert got == [b"%d" % number for number in range(BATCH + 8)]


@pytest.mark.needs("root")
def test_large_datagrams_among_small_ones_are_whole(fd: int, landing: Landing, pair: Pair) -> None:
    theirs, ours = pair
    enlarge(theirs)
    sent = [b"small", os.urandom(SLOT), b"small", os.urandom(SLOT - 1), b""]
    for data in sent:
        theirs.send(data)
        lengths, _ = landing.receive(ours.fileno())
        assert payloads(landing, lengths) == [data]
    for data in sent[:3]:
        theirs.send(data)
    found: list[bytes] = []
    while len(found) < 3:
        lengths, _ = landing.receive(ours.fileno())
        found += payloads(Landing(fd), lengths)
    assert found == sent[:3]


def test_empty_packets_before_a_hang_up_are_packets(landing: Landing, pair: Pair) -> None:
    theirs, ours = pair
    for data in (b"last", b"", b""):
        theirs.send(data)
    theirs.close()
    lengths, ended = landing.receive(ours.fileno())
    assert (lengths, ended) == ([4, 0, 0], True)
    landing.done()
    assert landing.receive(ours.fileno()) == ([], True)


@pytest.mark.needs("root")
def test_the_true_length_of_a_cut_datagram_is_known(landing: Landing, pair: Pair) -> None:
    theirs, ours = pair
    enlarge(theirs)
    theirs.send(bytes(SLOT + 1))
    lengths, _ = landing.receive(ours.fileno())
    assert lengths == [SLOT + 1]
    assert len(landing.payload(0, lengths[0])) == SLOT


def test_a_successor_finds_what_was_received_and_not_written(fd: int, landing: Landing, pair: Pair) -> None:
    theirs, ours = pair
    for data in (b"one", b"", b"three"):
        theirs.send(data)
    theirs.close()
    landing.receive(ours.fileno())
    found = Landing(fd).unfinished()
    assert found is not None
    assert [bytes(payload) for payload in found.payloads] == [b"one", b"", b"three"]
    assert found[:8] == (5, True, 7, 9, 10, SPOOL, 11, WHEN)
    landing.done()
    assert Landing(fd).unfinished() is None


def test_a_successor_finds_nothing_where_nothing_was_received(fd: int, landing: Landing, pair: Pair) -> None:
    theirs, ours = pair
    assert Landing(fd).unfinished() is None
    landing.receive(ours.fileno())
    assert Landing(fd).unfinished() is None
    theirs.close()
    landing.receive(ours.fileno())
    assert Landing(fd).unfinished() is None, "a hang-up is no frame"
    theirs2, ours2 = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs2, ours2:
        theirs2.send(b"x")
        landing.receive(ours2.fileno())
        Landing(fd).prepare()
        assert Landing(fd).unfinished() is None


@pytest.mark.parametrize("garbage", [b"\xff" * 4096, b"STl4" + b"\xff" * 4000, os.urandom(4096)])
def test_a_landing_of_garbage_holds_nothing(fd: int, garbage: bytes) -> None:
    os.pwrite(fd, garbage, 0)
    assert Landing(fd).unfinished() is None


def test_what_is_known_of_a_source_is_remembered_by_its_place(fd: int, landing: Landing) -> None:
    landing.set_lost(1, 2**40)
    landing.set_lost(2, 7)
    landing.set_stream(2, 2**64 - 1)
    successor = Landing(fd)
    assert [successor.lost(place) for place in (0, 1, 2, 1023)] == [0, 2**40, 7, 0]
    assert [successor.stream(place) for place in (1, 2, 3)] == [0, 2**64 - 1, 0]


def test_a_spool_whose_name_has_no_room_is_refused(landing: Landing) -> None:
    with pytest.raises(UsageError, match="shorter"):
        landing.aim(0, False, 0, 0, 0, Path("/" + "x" * 4090), 0, WHEN)


def test_in_memory_the_landing_survives_its_keeper_and_on_a_disk_it_has_no_name(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or not os.access(shm, os.W_OK):
        pytest.skip("there is no /dev/shm here")
    folder = shm / f"sandtrail-test-{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        first = create_landing(folder)
        Landing(first).set_lost(3, 4)
        os.close(first)
        second = create_landing(folder)
        assert Landing(second).lost(3) == 4
        assert os.fstat(second).st_mode & 0o777 == 0o600
        os.close(second)
    finally:
        (folder / "landing").unlink(missing_ok=True)
        folder.rmdir()
