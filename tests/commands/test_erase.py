"""Erasure, hold and retention end to end: real sealer, follower and command, and a search through every byte left."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import zstandard
from typer.testing import CliRunner

from sandtrail.cli import app
from sandtrail.errors import ErasedError, SandtrailError, UsageError
from sandtrail.replay.follow import Follower, catch_up
from sandtrail.replay.index import Index
from sandtrail.replay.timeline import Timelines
from sandtrail.store import acts, custody
from sandtrail.store.acts import Orders, order
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.evidence import Proof, prove
from sandtrail.store.leaves import frame_leaf
from sandtrail.store.merkle import root_from_path, tree_root
from sandtrail.store.reader import open_log
from sandtrail.store.sealer import Sealer
from sandtrail.store.segments import check_blob, read_frames, stored_segments
from sandtrail.store.spool import SpoolWriter
from tests.inside import sandtrail

MARK = "Wolfgang-Amadeus-1756-Requiem-9f2c"
VICTIM = "of-the-victim-41c7"


def forms(words: str) -> dict[str, bytes]:
    """How text may lie in a file without being a plain copy of itself."""
    data = words.encode()
    found = {"plain": data, "hex": data.hex().encode(), "HEX": data.hex().upper().encode()}
    found["utf-16"] = words.encode("utf-16-le")
    for at in range(3):
        coded = base64.b64encode(b"\0" * at + data)
        found[f"base64+{at}"] = coded[(0, 2, 3)[at] : -4]
    return found


def contents(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what they hold in compressed form."""
    data = path.read_bytes()
    yield data
    if data.startswith(b"PAR1"):
        yield json.dumps(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
    for magic, unpack in ((b"\x28\xb5\x2f\xfd", _unzstd), (b"\x78\x9c", zlib.decompress)):
        at = data.find(magic)
        while at >= 0:
            with contextlib.suppress(zstandard.ZstdError, zlib.error):
                yield unpack(data[at:])
            at = data.find(magic, at + 1)


def _unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def search(home: Path, *needles: bytes) -> set[str]:
    """The files below `home` in which any of these can be found, or whose names hold it."""
    found = set()
    for path in home.rglob("*"):
        name = str(path.relative_to(home))
        held = list(contents(path)) if path.is_file() else []
        if any(needle in data for needle in needles for data in (name.encode(), *held)):
            found.add(name)
    return found


def remains(home: Path) -> set[str]:
    return search(home, *forms(MARK).values(), *forms(VICTIM).values())


def write(home: Path, session: str, words: str, *, spool: SpoolWriter | None = None, sandbox: str = "") -> None:
    """A session that says words in every way that a source has."""
    own = spool or SpoolWriter(home, "test")
    about = {"session": session, "sandbox": sandbox or f"{session}-pod"}
    life = own.open({"source": "lifecycle", **about, "part": "record", "command": ["sh", "-c", words]})
    gateway = own.open({"source": "gateway", **about, "sees": [words]})
    body = base64.b64encode(json.dumps({"q": words}).encode()).decode()
    head = {"t": "request", "flow": "f", "id": "1", "method": "POST", "url": f"http://x/{words}", "headers": []}
    gateway.write(json.dumps({**head, "body": body, "body_bytes": len(body), "end_ns": 1}).encode())
    gateway.write(f"{words} {words.encode().hex()} {words * 20}".encode())
    gateway.note({"note": "gap", "cause": words, "count": 1})
    life.write(json.dumps({"act": "exit", "container": f"{session}-agent", "exit_status": 0}).encode())
    gateway.close("ended")
    life.close("ended")
    if spool is None:
        own.close()


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandtrail", *arguments, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def told(home: Path, *arguments: str) -> tuple[int, str]:
    """The same in this process: exit status and words."""
    done = CliRunner().invoke(app, [*arguments, "--home", str(home)])
    if isinstance(done.exception, SandtrailError):
        return 2, str(done.exception)
    return done.exit_code, done.stdout


def erased(home: Path) -> dict[str, Any]:
    status, said = told(home, "erase", VICTIM, "--reason", "asked for", "--yes", "--json")
    assert status == 0, said
    found: dict[str, Any] = json.loads(said)
    return found


@pytest.fixture
def sealing(home: Path) -> Iterator[None]:
    """The sealer as a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "sandtrail.store.sealer", "--home", str(home)])
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(60) == 0


@pytest.fixture
def following(home: Path) -> Iterator[None]:
    """A follower that is at work all the time."""
    stopped = threading.Event()
    follower = Follower(home)
    thread = threading.Thread(target=follower.run, args=(stopped.is_set,))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        follower.close()


def wait_for(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def of_key(home: Path, key: bytes) -> list[dict[str, Any]]:
    return [e.map for e in open_log(home).entries() if e.kind == "segment" and e.map["key"] == key]


def holds(proof: Proof, frame: Any, salt: bytes) -> bool:
    """Whether a proof that was handed out leads to a root that the log still signs."""
    leaf = frame_leaf(frame.stream, frame.seq, frame.kind, frame[5:8], frame.payload, salt)
    root: bytes = proof.manifest["root"]
    return root_from_path(leaf, frame.place, proof.frames_in_segment, proof.inner) == root


def verified(home: Path) -> bool:
    return sandtrail("verify", "--home", home).returncode == 0


def story(home: Path) -> None:
    """Two sessions, sealed, indexed and summarised."""
    write(home, VICTIM, MARK)
    write(home, "other", "harmless")
    (home / "sessions").mkdir()
    (home / "sessions" / VICTIM).touch()
    Sealer(home).stop()
    index = catch_up(home)
    Timelines(home, index).summarise()
    index.close()


def test_nothing_is_left_of_a_session_and_everything_of_the_others(home: Path, tmp_path: Path) -> None:
    story(home)
    before = remains(home)
    assert {name.split("/")[0] for name in before} >= {"events", "timelines", "sessions", "keys"}
    assert any(name.startswith("catalog.db") for name in before)
    (key,) = DataKeys(home).of_session(VICTIM)
    (manifest,) = of_key(home, key.id)
    reader = open_log(home)
    proofs = [prove(reader, frame.ref) for frame in read_frames(home, manifest)]
    assert all(proof.verified for proof in proofs)
    secrets = [key.key, *(proof.salt for proof in proofs), *(proof.leaf for proof in proofs)]
    assert search(home, key.key)
    with contextlib.closing(Index(home)) as index:
        other = index.session("other"), list(index.rows("other")), index.streams("other")
    assert verified(home)
    ref, handed_out = next(p.ref for p in proofs if p.frame and MARK.encode() in p.frame.payload), tmp_path / "proof"
    assert told(home, "prove", str(ref), "-o", str(handed_out))[0] == 0

    command = run(home, "erase", VICTIM, "--reason", "asked for", "--yes", "--json")
    done = json.loads(command.stdout)

    assert command.returncode == 0
    assert remains(home) == set()
    assert search(home, *secrets) == set()
    assert (done["frames"], done["segments"], done["index"]) == (manifest["frames"], 1, "purged")
    assert verified(home)
    with contextlib.closing(Index(home)) as index:
        assert (index.session("other"), list(index.rows("other")), index.streams("other")) == other
        assert [row["id"] for row in index.sessions()] == ["other"]
    # What was handed out before still leads to what the log signs.
    check_blob(home, manifest)
    assert of_key(home, key.id) == [manifest]
    assert all(proof.frame is not None and holds(proof, proof.frame, proof.salt) for proof in proofs)
    pinned = [f"--key={line}" for line in (home / "keys" / "log.vkey").read_text().splitlines()]
    assert CliRunner().invoke(app, ["verify", str(handed_out), *pinned]).exit_code == 0
    assert "is gone" in told(home, "prove", str(ref))[1]


def test_nothing_that_is_left_confirms_a_guess(home: Path) -> None:
    story(home)
    (key,) = DataKeys(home).of_session(VICTIM)
    (manifest,) = of_key(home, key.id)
    frames = list(read_frames(home, manifest))
    erased(home)
    with pytest.raises(ErasedError):
        list(read_frames(home, manifest))
    # The guess is perfect: every frame, every clock. Without the salts it leads to another root.
    guessed = [frame_leaf(f.stream, f.seq, f.kind, f[5:8], f.payload) for f in frames]
    assert tree_root(guessed) != manifest["root"]
    digests = [hashlib.sha256(f.payload).digest() for f in frames]
    assert search(home, *guessed, *digests, *(digest.hex().encode() for digest in digests)) == set()


def test_while_recorder_and_follower_are_at_work(home: Path, sealing: None, following: None) -> None:
    """Sealed frames of it lie in a spool that is still written to, and a reader is in the middle of it."""
    spool = SpoolWriter(home, "test")
    write(home, VICTIM, MARK, spool=spool)
    live = spool.open({"source": "gateway", "session": "live", "sandbox": "live-pod"})
    live.write(b"before")
    with contextlib.closing(Index(home)) as index:
        wait_for(
            lambda: {row["id"]: row["state"] for row in index.sessions()} == {VICTIM: "ended", "live": "recording"}
        )
        assert any(name.startswith("spool/") for name in remains(home))
        status, said = told(home, "erase", "live", "--reason", "x", "--yes")
        assert (status, "is being recorded" in said) == (2, True)
        rows = index.rows(VICTIM)
        next(rows)
        assert erased(home)["index"] == "purged"
        del rows
        assert remains(home) == set()
        live.write(b"after")
        live.close("ended")
        spool.close()
        wait_for(lambda: index.session("live")["state"] == "ended")
        assert index.session("live")["events"] == 4
    assert DataKeys(home).of_session("live")


def test_it_is_refused_where_it_must_not_be(home: Path) -> None:
    story(home)
    for arguments, words in (
        (("erase", VICTIM, "--reason", "x"), "add --yes"),
        (("erase", "nobody", "--reason", "x", "--yes"), "no data key keeps a session 'nobody'"),
        (("hold", VICTIM, "maybe"), "write on or off"),
        (("hold", VICTIM, "on"), "for which case"),
        (("retain", "--older-than", "90"), "write a number and h, d, w or y"),
    ):
        status, said = told(home, *arguments)
        assert (status, words in said) == (2, True), said
    assert any(name.startswith("events/") for name in remains(home))


def test_a_hold_blocks_both_and_is_listed(home: Path) -> None:
    story(home)
    assert told(home, "hold", VICTIM, "on", "--case", "4711")[0] == 0
    listed = json.loads(told(home, "hold", "--json")[1])
    assert [(row["session"], row["case"]) for row in listed] == [(VICTIM, "4711")]
    status, said = told(home, "erase", VICTIM, "--reason", "x", "--yes")
    assert (status, "under legal hold (4711)" in said) == (2, True)
    # Also where the command is not asked: whoever writes the log refuses.
    keys = [key.id for key in DataKeys(home).of_session(VICTIM)]
    with pytest.raises(UsageError, match="legal hold"):
        order(home, {"act": "erase", "keys": keys, "reason": "x", "by": "y"})
    before = time.time_ns()
    done = order(home, {"act": "retain", "before": before, "reason": "old", "by": "y"})
    assert (done["segments"], done["held"]) == (1, 1)
    index = catch_up(home)
    assert [row["id"] for row in index.sessions()] == [VICTIM]
    index.close()
    assert told(home, "hold", VICTIM, "off", "--case", "4711")[0] == 0
    erased(home)
    assert remains(home) == set()
    assert verified(home)


def test_retention_removes_what_is_old(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 100 * 86_400 * 10**9)
    story(home)
    monkeypatch.undo()
    monkeypatch.setenv("SANDTRAIL_RUN", str(home / "run"))
    write(home, "new", "newer")
    Sealer(home).stop()
    would = json.loads(told(home, "retain", "--older-than", "90d", "--dry-run", "--json")[1])
    assert (would["segments"], would["held"]) == (2, 0)
    assert any(name.startswith("events/") for name in remains(home))
    done = json.loads(told(home, "retain", "--older-than", "90d", "--json")[1])
    assert (done["segments"], done["index"]) == (2, "purged")
    assert remains(home) == {f"sessions/{VICTIM}"}
    with contextlib.closing(Index(home)) as index:
        assert [row["id"] for row in index.sessions()] == ["new"]
    assert verified(home)
    for age in ("90d", "100y"):
        again = json.loads(told(home, "retain", "--older-than", age, "--json")[1])
        assert again["segments"] == 0
    assert told(home, "retain", "--older-than", "3m")[0] == 2  # months, or minutes?


def dies(home: Path, step: str, act: dict[str, Any]) -> None:
    """Order an act in a process that is killed (SIGKILL) right after a step."""
    pid = os.fork()
    if not pid:
        try:
            owner, name, first = _STEPS[step]
            real = getattr(owner, name)

            def dying(*args: Any, **more: Any) -> Any:
                found = real(*args, **more)
                if first in ("", args[1]):
                    os.kill(os.getpid(), signal.SIGKILL)
                return found

            setattr(owner, name, dying)
            order(home, act)
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "it ended before it could be killed"


# What it dies right after: writing the order, signing the entry, destroying the first key, freeing the spool, removing
# blobs, answering.
_STEPS: dict[str, tuple[Any, str, str]] = {
    "ordered": (acts, "publish", ""),
    "signed": (Sealer, "record", "erase"),
    "destroyed": (DataKeys, "destroy", ""),
    "freed": (custody, "free_spools", ""),
    "signed-removal": (Sealer, "record", "retain"),
    "removed": (custody, "_remove_segments", ""),
    "answered": (Orders, "done", ""),
}


@pytest.mark.parametrize("step", ["ordered", "signed", "destroyed", "freed", "answered"])
def test_killed_at_any_step_it_is_finished_by_whoever_comes_next(home: Path, step: str) -> None:
    write(home, VICTIM, MARK, sandbox="another")
    story(home)
    keys = [key.id for key in DataKeys(home).of_session(VICTIM)]
    assert len(keys) == 2
    dies(home, step, {"act": "erase", "keys": keys, "reason": "x", "by": "y"})
    Sealer(home).stop()
    catch_up(home).close()
    assert remains(home) == {f"sessions/{VICTIM}"}
    # Who orders it again is told that there is nothing to erase; then the id is gone too.
    assert told(home, "erase", VICTIM, "--reason", "x", "--yes")[0] == 2
    assert remains(home) == set()
    assert not list((home / "acts").glob("*.order"))
    assert len([e for e in open_log(home).entries() if e.kind == "erase"]) == 1
    assert verified(home)


@pytest.mark.parametrize("step", ["signed-removal", "removed", "answered"])
def test_a_removal_that_was_killed_is_finished_too(home: Path, step: str) -> None:
    story(home)
    dies(home, step, {"act": "retain", "before": time.time_ns(), "reason": "old", "by": "y"})
    Sealer(home).stop()
    catch_up(home).close()
    (act,) = [entry.map for entry in open_log(home).entries() if entry.kind == "retain"]
    assert not {number for first, last in act["segments"] for number in range(first, last + 1)} & set(
        stored_segments(home)
    )
    assert remains(home) == {f"sessions/{VICTIM}"}
    assert verified(home)
