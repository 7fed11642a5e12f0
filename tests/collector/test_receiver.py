"""The receiver: every packet verbatim, once, in order, whatever dies; and whatever is missing on record.

The other side is a stand-in for gVisor's sentry that speaks its protocol, see `sentry`.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandtrail.collector import batches, landing
from sandtrail.collector import receiver as module
from sandtrail.collector.control import receive, send
from sandtrail.collector.landing import SLOT, Landing, create_landing
from sandtrail.collector.receiver import Receiver
from sandtrail.store.frames import Kind
from sandtrail.store.position import spools, wait_sealed
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter, Stream
from tests.collector.recorder import Recorder, only, recorded, wait_for
from tests.collector.sentry import EXEC, Sentry, enlarge, packet
from tests.store.recording import sealed


@pytest.fixture
def recorder(home: Path) -> Iterator[Recorder]:
    with Recorder(home) as running:
        yield running


def storm(sentry: Sentry, count: int, start: int = 0, size: int = 150) -> list[bytes]:
    """Send numbered packets, every one acknowledged by the kernel; returns them."""
    return [sentry.send(b"%08d" % number + bytes(size)) for number in range(start, start + count)]


# -- packets -----------------------------------------------------------------------------------------------------------


@pytest.mark.needs("root")
def test_packets_of_any_size_are_recorded_verbatim(recorder: Recorder) -> None:
    with Sentry(recorder.session(machine="x86_64")) as sentry:
        assert sentry.reply == b"\x08\x01"
        enlarge(sentry.socket)
        sizes = (0, 1, 7, 8, 9, 0, 4096, 65_536, 300_000, SLOT - 1, SLOT, 0)
        sent = [sentry.raw(os.urandom(size)[:2] + bytes(max(0, size - 2))) for size in sizes]
    recorder.end()
    one = only(recorder.home)
    assert [len(data) for data in one.data] == list(sizes)
    assert one.data == sent
    assert one.notes("cut") == []
    assert one.descriptor | {"peer_pid": 0} == {
        "source": "gvisor",
        "session": "s1",
        "sandbox": "sandbox-s1",
        "machine": "x86_64",
        "protocol": 1,
        "peer_pid": 0,
        "peer_uid": os.getuid(),
    }
    assert one.descriptor["peer_pid"] == os.getpid()
    assert one.closed is not None
    assert one.closed["reason"] == "end of connection"


@pytest.mark.needs("root")
def test_what_is_cut_off_is_noted_with_its_true_length(recorder: Recorder) -> None:
    with Sentry(recorder.session()) as sentry:
        enlarge(sentry.socket)
        sentry.raw(b"a" * 20)
        long = sentry.raw(packet(b"b" * (2 * SLOT)))
        sentry.raw(b"c" * 20)
    recorder.end()
    one = only(recorder.home)
    assert one.data == [b"a" * 20, long[:SLOT], b"c" * 20]
    (cut,) = one.notes("cut")
    assert (cut["bytes"], cut["kept"]) == (len(long), SLOT)
    assert next(frame for frame in one.frames if frame.seq == cut["seq"]).payload == long[:SLOT]


def test_a_connection_that_is_reset_has_been_recorded_to_its_end(recorder: Recorder) -> None:
    """A peer that closes with our answer unread resets the connection, which the kernel tells before its last words."""
    sentry = Sentry(recorder.session(), read_reply=False)
    wait_for(lambda: recorder.keeper.status()["streams"])
    sent = storm(sentry, 200)
    sentry.close()
    recorder.end()
    one = only(recorder.home)
    assert one.data == sent
    assert one.closed is not None
    assert "reset" in one.closed["reason"]


def test_a_sentry_that_has_come_and_gone_before_it_was_looked_at_is_recorded(recorder: Recorder) -> None:
    for number in range(10):
        endpoint = recorder.session(f"s{number}")
        os.kill(recorder.pid, signal.SIGSTOP)
        sentry = Sentry(endpoint, read_reply=False)
        sent = storm(sentry, 20)
        sentry.close()
        os.kill(recorder.pid, signal.SIGCONT)
        recorder.end(f"s{number}")
        one = next(one for one in recorded(recorder.home) if one.descriptor["session"] == f"s{number}")
        assert one.data == sent


def test_the_times_of_receipt_are_those_of_the_receipt(recorder: Recorder) -> None:
    with Sentry(recorder.session()) as sentry:
        before = time.time_ns()
        sent = sentry.send(b"x", kind=EXEC)
        wait_for(lambda: any(sent in path.read_bytes() for path in spools(recorder.home)))
        after = time.time_ns()
    recorder.end()
    frame = next(frame for frame in only(recorder.home).frames if frame.kind == Kind.DATA)
    assert before < frame.realtime_ns < after
    assert frame.monotonic_ns <= time.monotonic_ns()
    assert frame.boottime_ns <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


# -- what the sentry has dropped ---------------------------------------------------------------------------------------


def test_every_change_of_the_drop_counter_is_a_gap_between_two_frames(recorder: Recorder) -> None:
    counters = [0, 0, 3, 3, 3, 10, 10]
    with Sentry(recorder.session()) as sentry:
        for counter in counters:
            sentry.send(b"x", dropped=counter)
    streams = recorder.end()
    one = only(recorder.home)
    gaps = one.notes("gap")
    assert [gap["count"] for gap in gaps] == [3, 7]
    data = [frame for frame in one.frames if frame.kind == Kind.DATA]
    for gap, index in zip(gaps, (2, 5), strict=True):
        assert gap["before_seq"] == data[index].seq
        assert gap["after_seq"] == gap["before_seq"] - 1
        assert gap["from_ns"] <= gap["to_ns"] == data[index].realtime_ns
        assert gap["cause"] == "dropped by the sentry"
    assert streams[0]["dropped"] == 10
    assert one.closed is not None
    assert one.closed["dropped"] == 10


def test_the_drop_counter_may_wrap(recorder: Recorder) -> None:
    counters = [2**32 - 5, 2**32 - 1, 2, 2]
    with Sentry(recorder.session()) as sentry:
        for counter in counters:
            sentry.send(b"x", dropped=counter)
    streams = recorder.end()
    assert [gap["count"] for gap in only(recorder.home).notes("gap")] == [2**32 - 5, 4, 3]
    assert streams[0]["dropped"] == 2**32 + 2


@pytest.mark.parametrize("counters", [([5], [5, 9]), ([5], [5]), ([2**32 - 1], [3]), ([0], [4])])
def test_the_drop_counter_goes_on_over_a_killed_receiver(
    recorder: Recorder, counters: tuple[list[int], list[int]]
) -> None:
    first, second = counters
    with Sentry(recorder.session()) as sentry:
        for counter in first:
            sentry.send(b"x", dropped=counter)
        wait_for(lambda: _in_spools(recorder.home, b"x" * 1) >= 1)
        time.sleep(0.1)
        recorder.kill("receiver")
        for counter in second:
            sentry.send(b"y", dropped=counter)
    streams = recorder.end()
    total = first[-1] + (second[-1] - first[-1]) % 2**32
    one = only(recorder.home)
    assert one.lost == total == streams[0]["dropped"]
    assert len(streams[0]["continues"]) == 1


def _in_spools(home: Path, needle: bytes) -> int:
    return sum(path.read_bytes().count(needle) for path in spools(home))


# -- a receiver that is killed -----------------------------------------------------------------------------------------


class Moments:
    """Counts what a receiver does, and kills it at one moment."""

    def __init__(self, fatal: int) -> None:
        self._left = fatal

    def pass_by(self) -> None:
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1

    def around(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def act(*arguments: Any, **named: Any) -> Any:
            self.pass_by()
            result = real(*arguments, **named)
            self.pass_by()
            return result

        setattr(owner, name, act)


class Life:
    """Keeps the sockets as the keeper does, while one receiver after the other lives and dies."""

    def __init__(self, home: Path, fd: int, run: Path) -> None:
        self._home, self._fd = home, fd
        self.landing = create_landing(run)
        self._before: list[str] = []
        self._spool = -1

    def live(self, fatal: int | None) -> bool:
        """One receiver's life; whether it ended in peace."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stream = os.urandom(8).hex()
        take = {"op": "take", "id": 3, "stream": stream, "before": self._before, "gvisor": True}
        send(ours, {**take, "descriptor": {"source": "gvisor"}}, [self._fd])
        self._before.append(stream)
        send(ours, {"op": "stop"})
        pid = os.fork()
        if not pid:
            try:
                ours.close()
                self._receive(theirs, fatal)
            finally:
                os._exit(0)
        theirs.close()
        _, status = os.waitpid(pid, 0)
        while True:
            message, fds = receive(ours)
            if message is None:
                break
            if message["op"] == "spool":
                if self._spool >= 0:
                    os.close(self._spool)
                (self._spool,) = fds
        ours.close()
        return not os.WIFSIGNALED(status)

    def _receive(self, control: socket.socket, fatal: int | None) -> None:
        if fatal is not None:
            moments = Moments(fatal)
            for owner, name in (
                (Landing, "receive"),
                (Landing, "done"),
                (Landing, "set_lost"),
                (Landing, "set_stream"),
                (Landing, "prepare"),
                (SpoolWriter, "append_here"),
                (SpoolWriter, "truncate"),
                (SpoolWriter, "_next_file"),
                (Stream, "note"),
            ):
                moments.around(owner, name)
        Receiver(self._home, control, Landing(self.landing)).run()

    def close(self) -> None:
        os.close(self.landing)
        if self._spool >= 0:
            os.close(self._spool)


COUNTERS = [0] * 40 + [4] * 20 + [9] * 10
SENT = [packet(b"%03d" % number, dropped=counter) for number, counter in enumerate(COUNTERS)]


@pytest.fixture
def full_socket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], socket.socket]]:
    """Makes sockets that hold all of SENT, in three batches, and the hang-up behind it."""
    for owner in (module, landing):
        monkeypatch.setattr(owner, "BATCH", 32)
    made: list[socket.socket] = []

    def make() -> socket.socket:
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        for data in SENT:
            theirs.send(data)
        theirs.close()
        made.append(ours)
        return ours

    yield make
    for sock in made:
        sock.close()


@pytest.mark.parametrize(
    ("again", "rotate", "split"),
    [(False, 64 << 20, False), (True, 2000, False), (True, 64 << 20, True)],
    ids=["dies-once", "dies-twice", "a-batch-of-several-records"],
)
def test_a_receiver_that_dies_at_any_moment_has_lost_nothing_and_written_nothing_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full_socket: Callable[[], socket.socket],
    again: bool,
    rotate: int,
    split: bool,
) -> None:
    monkeypatch.setattr("sandtrail.store.spool.ROTATE_AT", rotate)
    if split:
        monkeypatch.setattr(batches, "MAX_PAYLOAD", 10 * len(SENT[0]))
        monkeypatch.setattr(batches, "SLOT", len(SENT[0]))
    monkeypatch.setattr(module, "_NAP", 0.0)
    for fatal in range(100):
        home = tmp_path / str(fatal)
        home.mkdir()
        life = Life(home, full_socket().fileno(), home)
        survived = life.live(fatal)
        if not survived and again:
            # Its successor dies while it finishes what the first one had in hand.
            life.live(fatal % 7)
        assert life.live(None)
        life.close()
        Sealer(home).stop()
        one = only(home)
        assert one.data == SENT, f"killed at moment {fatal}"
        assert [gap["count"] for gap in one.notes("gap")] == [4, 5], f"killed at moment {fatal}"
        if survived:
            assert fatal > 15
            return
    pytest.fail("a receiver has more moments than this test has tried")


def test_what_a_receiver_had_in_hand_when_everything_died_is_written_by_the_next_recorder(
    tmp_path: Path, full_socket: Callable[[], socket.socket]
) -> None:
    """Where the run folder is a tmpfs, as /run is."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("there is no /dev/shm here; mount a tmpfs on it")
    with tempfile.TemporaryDirectory(dir=shm) as run:
        for fatal in range(100):
            home = tmp_path / str(fatal)
            sock = full_socket()
            first = Life(home, sock.fileno(), Path(run))
            survived = first.live(fatal)
            first.close()
            # The next keeper knows nothing of the streams of the last one, and has only what lies in the run folder.
            second = Life(home, sock.fileno(), Path(run))
            assert second.live(None)
            second.close()
            Sealer(home).stop()
            data = [packet for one in recorded(home) for packet in one.data]
            assert data == SENT, f"killed at moment {fatal}"
            if survived:
                return
    pytest.fail("a receiver has more moments than this test has tried")


def test_a_batch_whose_spool_has_vanished_is_a_gap(tmp_path: Path, full_socket: Callable[[], socket.socket]) -> None:
    life = Life(tmp_path, full_socket().fileno(), tmp_path)
    fatal = 0
    while (finding := Landing(life.landing).unfinished()) is None:
        life.live(fatal)
        fatal += 1
    for path in spools(tmp_path):
        path.unlink()
    assert life.live(None)
    life.close()
    Sealer(tmp_path).stop()
    (gap,) = only(tmp_path, "collector").notes("gap")
    assert gap["cause"] == "the spool of an unfinished batch has vanished"
    assert gap["count"] == len(finding.lengths) == 32
    assert gap["stream"] == f"{finding.stream:016x}"
    assert only(tmp_path).data == SENT[32:]


def test_a_storm_over_many_killed_receivers_loses_nothing_and_keeps_its_order(recorder: Recorder) -> None:
    sent: list[bytes] = []
    rng = random.Random(3)
    with Sentry(recorder.session()) as sentry:
        for _ in range(12):
            sent += storm(sentry, 1500, len(sent))
            time.sleep(rng.random() / 500)
            os.kill(recorder.processes()["receiver"]["pid"], signal.SIGKILL)
        sent += storm(sentry, 1500, len(sent))
    (stream,) = recorder.end()
    one = only(recorder.home)
    assert one.data == sent
    assert one.lost == 0
    processes = recorder.processes()
    assert processes["receiver"]["starts"] == 13
    assert 1 <= len(stream["continues"]) <= 12
    assert processes["sealer"]["starts"] == 1


def test_a_receiver_that_is_stopped_for_a_while_makes_the_sentry_wait(recorder: Recorder) -> None:
    with Sentry(recorder.session()) as sentry:
        pid = recorder.processes()["receiver"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        sentry.socket.settimeout(0.1)
        sent = []
        with pytest.raises(TimeoutError):
            for number in range(100_000):
                sent += storm(sentry, 1, number)
        os.kill(pid, signal.SIGCONT)
        sentry.socket.settimeout(20)
        sent += storm(sentry, 1000, len(sent))
    recorder.end()
    assert only(recorder.home).data == sent


# -- many at once ------------------------------------------------------------------------------------------------------


def test_eight_storms_at_once_lose_nothing(recorder: Recorder) -> None:
    sent: dict[str, list[bytes]] = {}

    def run(name: str, endpoint: str) -> None:
        with Sentry(endpoint) as sentry:
            sent[name] = storm(sentry, 3000)

    threads = [threading.Thread(target=run, args=(f"s{n}", recorder.session(f"s{n}"))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in list(sent):
        recorder.end(name)
    got = {one.descriptor["session"]: one.data for one in recorded(recorder.home)}
    assert got == sent
    assert len(got) == 8


def test_a_flood_keeps_nobody_else_waiting(recorder: Recorder) -> None:
    ended = threading.Event()

    def flood(endpoint: str) -> None:
        with Sentry(endpoint) as sentry:
            while not ended.is_set():
                storm(sentry, 100)

    flooding = threading.Thread(target=flood, args=(recorder.session("flood"),))
    flooding.start()
    said: list[tuple[bytes, int]] = []
    with Sentry(recorder.session("slow")) as sentry:
        for number in range(40):
            data = sentry.send(b"%d" % number)
            said.append((data, time.time_ns()))
            time.sleep(0.01)
    ended.set()
    flooding.join()
    recorder.end("slow")
    recorder.end("flood")
    slow = next(one for one in recorded(recorder.home) if one.descriptor["session"] == "slow")
    assert slow.data == [data for data, _ in said]
    received = [frame.realtime_ns for frame in slow.frames if frame.kind == Kind.DATA]
    waited = sorted(got - sent for got, (_, sent) in zip(received, said, strict=True))
    assert waited[len(waited) // 2] < 50_000_000
    assert waited[-1] < 1_000_000_000


def test_a_session_ends_although_its_sandbox_floods_on(recorder: Recorder) -> None:
    """A sentry that does not hang up is cut off after a while; what it had said until then is recorded."""
    sent: list[bytes] = []

    def flood(endpoint: str) -> None:
        with Sentry(endpoint) as sentry, pytest.raises(OSError, match="Broken pipe"):
            while True:
                sent.extend(storm(sentry, 1, len(sent)))

    flooding = threading.Thread(target=flood, args=(recorder.session(),))
    flooding.start()
    wait_for(lambda: len(sent) > 1000)
    streams = recorder.end()
    flooding.join()
    one = only(recorder.home)
    assert one.data == sent
    assert streams[0]["reason"] == "still open when its session ended"


# -- sockets that are adopted ------------------------------------------------------------------------------------------


def test_every_datagram_of_an_adopted_socket_is_a_frame(recorder: Recorder) -> None:
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    recorder.session()
    recorder.keeper.adopt("s1", ours.fileno(), {"source": "netfilter", "sees": ["flows"]})
    ours.close()
    sent = [b"one", b"", b"three"]
    with theirs:
        for data in sent:
            theirs.send(data)
        streams = recorder.end()
    one = only(recorder.home, "netfilter")
    assert one.data == sent
    assert one.descriptor == {"source": "netfilter", "sees": ["flows"], "session": "s1", "sandbox": "sandbox-s1"}
    assert [(stream["source"], stream["reason"]) for stream in streams] == [("netfilter", "session ended")]


# -- disks -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """A home on a file system of 12 MiB; the run folder is elsewhere."""
    disk = home / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "none", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.needs("root")
def test_a_full_disk_makes_the_sentry_wait_and_loses_nothing(small_disk: Path, home: Path) -> None:
    with Recorder(small_disk) as recorder:
        sent: list[bytes] = []
        with Sentry(recorder.session()) as sentry:
            sent += storm(sentry, 50)
            ballast = small_disk / "ballast"
            ballast.write_bytes(bytes(9 << 20))
            sentry.socket.settimeout(1.0)
            with pytest.raises(TimeoutError):
                while True:
                    sent.append(sentry.raw(packet(os.urandom(20_000))))
            # The sealer dies of it again and again, and is started again.
            wait_for(lambda: recorder.processes()["sealer"]["starts"] > 2)
            assert recorder.processes()["receiver"]["starts"] == 1
            ballast.unlink()
            sentry.socket.settimeout(20)
            sent += storm(sentry, 50, len(sent))
        recorder.end()
        assert only(small_disk).data == sent
        own = only(small_disk, "collector")
        stalled = own.notes("stalled")
        assert stalled
        assert all("No space left" in note["cause"] and note["from_ns"] < note["to_ns"] for note in stalled)
        log = (home / "run" / "keeper.log").read_text()
        assert log.count("No space left on device; trying again") >= 1
        assert "sealer: " in log


@pytest.mark.needs("root")
def test_what_comes_after_somebody_removed_the_spool_is_recorded_and_the_loss_is_a_gap(recorder: Recorder) -> None:
    with Sentry(recorder.session()) as sentry:
        before = storm(sentry, 50)
        wait_sealed(recorder.home)
        for path in spools(recorder.home):
            path.unlink()
        after = storm(sentry, 50, 50)
    recorder.end()
    one = only(recorder.home)
    assert one.data == before + after
    for told in (one, only(recorder.home, "collector")):
        (gap,) = told.notes("gap")
        assert "was removed while it was written to" in gap["cause"]
        assert gap["count"] is None
    assert recorder.processes()["receiver"]["starts"] == 1


def test_a_sealer_that_stands_still_stops_nobody(recorder: Recorder) -> None:
    pid = recorder.processes()["sealer"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    with Sentry(recorder.session()) as sentry:
        sent = storm(sentry, 20_000)
    recorder.keeper.end("s1")
    os.kill(pid, signal.SIGCONT)
    wait_sealed(recorder.home)
    assert only(recorder.home).data == sent


# -- the receiver's own stream -----------------------------------------------------------------------------------------


def test_a_receiver_says_that_it_runs_and_that_it_has_stopped(home: Path) -> None:
    with Recorder(home) as recorder:
        pid = recorder.processes()["receiver"]["pid"]
    one = only(home, "collector")
    assert one.descriptor["pid"] == pid
    assert one.closed is not None
    assert one.closed["reason"] == "recorder stopped"
    assert all(frame.kind != Kind.DATA for frame in sealed(home))
