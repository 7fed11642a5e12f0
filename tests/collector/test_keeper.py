"""The keeper: sessions, control, and a recorder that is killed as a whole."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandtrail.collector.control import MAX_PACKET, Keeper, receive, run_folder, send
from sandtrail.errors import RecorderError
from sandtrail.store.position import spools
from sandtrail.store.reader import open_log
from sandtrail.store.verify import verify
from tests.collector.recorder import Recorder, alive, only, recorded, wait_for
from tests.collector.sentry import Sentry
from tests.store.recording import entries, kinds


@pytest.fixture
def recorder(home: Path) -> Iterator[Recorder]:
    with Recorder(home) as running:
        yield running


def connect(home: Path) -> socket.socket:
    """A bare connection to the control socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(10)
    sock.connect(str(run_folder(home) / "keeper.sock"))
    return sock


def descriptors(recorder: Recorder) -> int:
    return len(list(Path(f"/proc/{recorder.pid}/fd").iterdir()))


def errors(home: Path) -> list[dict[str, Any]]:
    """What the recorder has noted about itself."""
    return [note for one in recorded(home, "collector") for note in one.notes("error")]


# -- the control socket ------------------------------------------------------------------------------------------------


def test_hello_says_who_answers(recorder: Recorder) -> None:
    hello = recorder.keeper.hello()
    assert (hello["pid"], hello["home"]) == (recorder.pid, str(recorder.home))
    status = recorder.keeper.status()
    assert (status["sessions"], status["streams"]) == ([], [])
    assert set(status["processes"]) == {"receiver", "sealer"}


def test_one_keeper_serves_a_home_however_many_ask(recorder: Recorder) -> None:
    others = [Keeper.connect(recorder.home) for _ in range(3)]
    assert {other.hello()["pid"] for other in others} == {recorder.pid}
    for other in others:
        other.close()
    second = subprocess.run(
        [sys.executable, "-m", "sandtrail.collector.keeper", "--home", str(recorder.home)],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 0
    assert b"another keeper serves" in second.stderr


def test_without_a_keeper_nobody_starts_one_unasked(home: Path) -> None:
    with pytest.raises(RecorderError, match="sandtrail up"):
        Keeper.connect(home, start=False)


def test_only_its_owner_may_speak_to_it(recorder: Recorder) -> None:
    endpoint = recorder.session()
    for path in (endpoint, run_folder(recorder.home) / "keeper.sock", run_folder(recorder.home) / "trace.sock"):
        assert Path(path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({}, "unknown request None"),
        ({"op": "dance"}, "unknown request 'dance'"),
        ({"op": ["hello"]}, "unknown request"),
        ({"op": "hello" * 1000}, "unknown request"),
        ({"op": "__init__"}, "unknown request"),
        ({"op": "session"}, "lacks 'session'"),
        ({"op": "session", "session": "s", "sandbox": "s"}, "lacks 'descriptor'"),
        ({"op": "session", "session": "s", "sandbox": "s", "descriptor": []}, "a descriptor is an object"),
        ({"op": "session", "session": "s", "sandbox": "s", "descriptor": {"x": "y" * 70_000}}, "at most"),
        ({"op": "end", "session": "nobody"}, "no session 'nobody'"),
        ({"op": "end", "session": ["s"]}, "no session"),
        ({"op": "end"}, "lacks 'session'"),
        ({"op": "adopt", "session": "nobody", "descriptor": {}}, "no session"),
        ({"op": "listen", "session": "nobody", "descriptor": {}}, "no session"),
    ],
)
def test_a_wrong_request_is_answered_with_what_is_wrong(shared: Recorder, request_: dict[str, Any], error: str) -> None:
    with pytest.raises(RecorderError, match=error):
        shared.keeper.call(request_)
    assert shared.keeper.hello()["pid"] == shared.pid


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.b", "a b", "a\n", "x" * 65, "é", "a\0b", "-", "\ud800"])
def test_a_session_cannot_be_named_so_that_its_endpoint_is_elsewhere(shared: Recorder, name: str) -> None:
    with pytest.raises(RecorderError):
        shared.keeper.session(name, "sandbox", {})
    assert shared.keeper.status()["sessions"] == []


@pytest.mark.parametrize(
    "packet", [b"x", b"{", b"[]", b"null", b'"op"', b"\xff" * 100, b"[" * 10_000, b'{"op":"\\ud800"}', b"{}" * 60_000]
)
def test_garbage_is_answered_and_changes_nothing(shared: Recorder, packet: bytes) -> None:
    with connect(shared.home) as sock:
        sock.send(packet)
        answer, _ = receive(sock)
        assert answer is not None
        assert answer["ok"] is False
        send(sock, {"op": "hello"})
        answer, _ = receive(sock)
        assert answer is not None
        assert answer["pid"] == shared.pid


def test_descriptors_that_nobody_asked_for_are_closed(shared: Recorder) -> None:
    before = descriptors(shared)
    for op in ("hello", "status", "adopt", "listen", "end", "nonsense"):
        with connect(shared.home) as sock, Path("/dev/null").open() as null:
            send(sock, {"op": op, "session": "nobody", "descriptor": {}}, [null.fileno()] * 5)
            receive(sock)
    # Not equal: a connection of the test before may have been closing when we counted.
    wait_for(lambda: descriptors(shared) <= before)


def test_a_client_that_reads_no_answers_stops_nobody(shared: Recorder) -> None:
    with connect(shared.home) as deaf:
        deaf.setblocking(False)
        with pytest.raises(BlockingIOError):
            for _ in range(100_000):
                deaf.send(b'{"op":"status"}')
        assert shared.keeper.hello()["pid"] == shared.pid


def test_a_client_that_comes_and_goes_leaves_nothing(shared: Recorder) -> None:
    before = descriptors(shared)
    for _ in range(50):
        connect(shared.home).close()
    # Not equal: a connection of the test before may have been closing when we counted.
    wait_for(lambda: descriptors(shared) <= before)


def test_a_message_over_the_limit_is_not_sent(shared: Recorder) -> None:
    with pytest.raises(RecorderError, match="over the limit"):
        shared.keeper.call({"op": "x" * MAX_PACKET})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """One recorder for the tests that only talk to it."""
    with pytest.MonkeyPatch.context() as patched:
        home = tmp_path_factory.mktemp("shared")
        patched.setenv("SANDTRAIL_RUN", str(home / "run"))
        with Recorder(home) as running:
            yield running


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_session_has_an_endpoint_until_it_ends(recorder: Recorder) -> None:
    endpoint = recorder.session("one")
    assert recorder.keeper.status()["sessions"] == ["one"]
    with pytest.raises(RecorderError, match="in use"):
        recorder.session("one")
    assert recorder.end("one") == []
    assert not Path(endpoint).exists()
    assert recorder.keeper.status()["sessions"] == []
    recorder.session("one")


def test_an_end_is_answered_when_every_connection_has_ended(recorder: Recorder) -> None:
    endpoint = recorder.session()
    sentries = [Sentry(endpoint) for _ in range(3)]
    ended: list[list[dict[str, Any]]] = []
    waiting = threading.Thread(target=lambda: ended.append(recorder.keeper.end("s1")))
    waiting.start()
    for number, sentry in enumerate(sentries):
        assert not ended
        for _ in range(number):
            sentry.send(b"x")
        time.sleep(0.05)
        sentry.close()
    waiting.join()
    assert sorted(stream["frames"] for stream in ended[0]) == [2, 3, 4], "what was sent, and the stream's two ends"
    assert {stream["reason"] for stream in ended[0]} == {"end of connection"}


def test_only_message_sockets_can_be_adopted(recorder: Recorder) -> None:
    recorder.session()
    with Path("/dev/null").open() as null, socket.socket() as tcp:
        for fd in (null.fileno(), tcp.fileno()):
            with pytest.raises(RecorderError):
                recorder.keeper.adopt("s1", fd, {})
    with pytest.raises(RecorderError, match="needs a socket"):
        recorder.keeper.call({"op": "adopt", "session": "s1", "descriptor": {}})
    assert recorder.keeper.status()["streams"] == []


def test_a_session_whose_owner_vanishes_is_cleaned_up_and_recorded_to_its_end(home: Path) -> None:
    with Recorder(home) as recorder:
        owner = Keeper.connect(home)
        sentry = Sentry(owner.session("lost", "sandbox", {}))
        sent = [sentry.send(b"before")]
        owner.close()
        wait_for(lambda: "session lost lost its owner; cleaning up" in recorder.log())
        sent.append(sentry.send(b"while it is cleaned up"))
        sentry.close()
        wait_for(lambda: recorder.keeper.status()["sessions"] == [], 30)
    assert only(home).data == sent


def test_what_is_no_handshake_is_recorded_and_closed(home: Path) -> None:
    with Recorder(home) as recorder:
        endpoint = recorder.session()
        for greeting in (b"garbage!", b"\x00" * 9000, b"GET / HTTP/1.1\r\n\r\n"):
            with Sentry(endpoint, greeting=greeting, read_reply=False) as stranger:
                assert stranger.hung_up()
        with Sentry(endpoint) as sentry:
            sent = [sentry.send(b"the real one")]
        recorder.end()
    assert only(home).data == sent
    notes = errors(home)
    assert [bytes.fromhex(note["first"])[:8] for note in notes] == [b"garbage!", b"\x00" * 8, b"GET / HT"]
    assert [note["bytes"] for note in notes] == [8, 9000, 18]
    assert {(note["session"], note["peer_pid"]) for note in notes} == {("s1", os.getpid())}


def test_a_connection_that_says_nothing_is_closed_after_a_while(home: Path) -> None:
    with Recorder(home) as recorder:
        silent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        silent.settimeout(20)
        silent.connect(recorder.session())
        with silent:
            assert silent.recv(10) == b""
    assert [note["cause"] for note in errors(home)] == ["a trace connection sent no handshake and was closed"]


# -- the recorder's life -----------------------------------------------------------------------------------------------


def test_a_keeper_that_nobody_needs_leaves_and_everything_is_signed(home: Path) -> None:
    command = [sys.executable, "-m", "sandtrail.collector.keeper", "--home", str(home), "--linger", "0.3"]
    keeper = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_for((run_folder(home) / "keeper.sock").exists)
    client = Keeper.connect(home, start=False)
    time.sleep(1.0)
    assert keeper.poll() is None, "a client needs it"
    client.session("s1", "sandbox", {})
    client.end("s1")
    client.close()
    assert keeper.wait(20) == 0
    assert kinds(home)[-1] == "stop"
    assert spools(home) == []
    assert verify(home).ok


def test_when_all_of_it_is_told_to_end_at_once_everything_is_still_signed(home: Path) -> None:
    """As a service manager does, which signals every process of the service."""
    with Recorder(home) as recorder:
        sentry = Sentry(recorder.session())
        sent = [sentry.send(b"%d" % number) for number in range(250)]
        pids = [recorder.pid, *(process["pid"] for process in recorder.processes().values())]
        for pid in pids[1:] + pids[:1]:
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not any(map(alive, pids)))
        sentry.close()
    one = only(home)
    assert one.data == sent
    assert one.closed is not None
    assert one.closed["reason"] == "recorder stopped"
    assert kinds(home)[-1] == "stop"
    assert spools(home) == []


def test_when_the_keeper_alone_is_killed_what_has_arrived_is_kept_and_the_next_start_says_so(home: Path) -> None:
    with Recorder(home) as recorder:
        sentry = Sentry(recorder.session())
        sent = [sentry.send(b"%d" % number) for number in range(250)]
        workers = [process["pid"] for process in recorder.processes().values()]
        os.kill(recorder.pid, signal.SIGKILL)
        wait_for(lambda: not any(map(alive, workers)))
        assert sentry.hung_up()
        sentry.close()
        assert "stop" not in kinds(home)
        # The keeper is dead, so that leaving the block has nothing to stop.
    with Recorder(home):
        pass
    one = only(home)
    assert one.data == sent
    assert one.closed is not None
    assert one.closed["reason"] == "the recorder's keeper has died"
    assert [kind for kind in kinds(home) if kind not in ("segment", "heartbeat")] == ["start", "gap", "start", "stop"]
    assert verify(home).ok


@pytest.mark.parametrize("seed", range(4))
def test_when_everything_is_killed_all_that_was_received_is_sealed_and_the_gap_has_its_bounds(
    home: Path, seed: int
) -> None:
    rng = random.Random(seed)
    sent: list[bytes] = []
    ended = threading.Event()

    def storm(endpoint: str) -> None:
        with Sentry(endpoint) as sentry:
            try:
                while not ended.is_set():
                    sent.append(sentry.send(b"%08d" % len(sent)))
            except OSError:
                pass

    recorder = Recorder(home)
    endpoint = recorder.session()
    sender = threading.Thread(target=storm, args=(endpoint,))
    began = time.time_ns()
    sender.start()
    time.sleep(0.2 + rng.random())
    received = sum(path.read_bytes().count(b"\x08\x00\x07\x00") for path in spools(home))
    recorder.kill_all()
    killed = time.time_ns()
    ended.set()
    sender.join()
    assert verify(home).ok, "a recorder that was killed has left a store that is good"
    with Recorder(home):
        again = time.time_ns()
    one = only(home)
    data = one.data
    assert data == sent[: len(data)], "a whole beginning of what was sent, in its order"
    assert len(data) >= received > 100
    # What had been sent and not received lay in the socket, which holds a few hundred packets.
    assert len(sent) - len(data) < 2000
    (gap,) = [fields for kind, fields in entries(home) if kind == "gap"]
    last = max(frame.realtime_ns for frame in one.frames)
    assert began < last <= gap["from"][0] < killed + 10_000_000
    assert gap["from"][0] < gap["to"][0] < again
    assert kinds(home)[-1] == "stop"
    assert spools(home) == []
    report = verify(home)
    assert (report.ok, report.gaps, report.unsigned_files) == (True, 1, 0)


def test_a_recorder_waits_for_what_the_last_one_has_not_written_down_yet(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper is killed, and its receiver stands still with a full socket; a new recorder starts meanwhile."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("there is no /dev/shm here; mount a tmpfs on it")
    with tempfile.TemporaryDirectory(dir=shm, prefix="st-") as run:
        monkeypatch.setenv("SANDTRAIL_RUN", run)
        first = Recorder(home)
        sentry = Sentry(first.session())
        receiver = first.processes()["receiver"]["pid"]
        os.kill(receiver, signal.SIGSTOP)
        sent = [sentry.send(b"%d" % number) for number in range(200)]
        os.kill(first.pid, signal.SIGKILL)
        first.keeper.close()
        threading.Timer(1.0, lambda: os.kill(receiver, signal.SIGCONT)).start()
        with Recorder(home) as second:
            assert not alive(receiver)
            sentry.close()
            with Sentry(second.session()) as again:
                more = [again.send(b"%d" % number) for number in range(200)]
            second.end()
    assert [one.data for one in recorded(home)] == [sent, more]
    assert verify(home).ok


def test_a_worker_that_dies_is_started_again_and_the_run_goes_on(home: Path) -> None:
    with Recorder(home) as recorder:
        with Sentry(recorder.session()) as sentry:
            sent = []
            for name in ("sealer", "receiver", "sealer"):
                sent.append(sentry.send(name.encode()))
                recorder.kill(name)
            sent.append(sentry.send(b"last"))
        recorder.end()
        assert only(home).data == sent
        processes = recorder.processes()
        assert (processes["sealer"]["starts"], processes["receiver"]["starts"]) == (3, 2)
    starts = [fields for kind, fields in entries(home) if kind == "start"]
    assert [start["first"] for start in starts] == [True, False, False]
    assert len({start["run"] for start in starts}) == 1
    assert "gap" not in kinds(home)


def test_a_second_recording_goes_on_in_the_same_log(home: Path) -> None:
    for number in range(2):
        with Recorder(home) as recorder:
            with Sentry(recorder.session(f"s{number}")) as sentry:
                sentry.send(b"%d" % number)
            recorder.end(f"s{number}")
    assert [one.data[0][8:] for one in recorded(home)] == [b"0", b"1"]
    assert [kind for kind in kinds(home) if kind != "segment"] == ["start", "stop"] * 2
    assert json.loads(json.dumps(verify(home).as_dict()))["ok"] is True
    assert open_log(home).size() == verify(home).size
