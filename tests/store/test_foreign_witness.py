"""Witnesses that we did not write cosign our checkpoints, and our witness serves a log that we did not write."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandtrail.errors import WitnessError
from sandtrail.store.cosignature import Ed25519Cosigner, MLDSACosigner, MLDSAKey, cosigned_at, parse_key
from sandtrail.store.keys import load_signer, load_verifier
from sandtrail.store.log import Log
from sandtrail.store.note import Checkpoint, parse_note
from sandtrail.store.policy import Policy, parse_policy
from sandtrail.store.tiles import TileReader
from sandtrail.witness.client import Ahead, Collected, collect
from tests.parts import foreign_go
from tests.store.foreign_go import check_log, logcheck
from tests.store.foreign_witness import PATIENCE_S, aics_witness, litewitness

PYTHON = "aics-witness"
GO = "litewitness"
ORIGIN = "sandtrail.example/fleet/node-1"


@pytest.fixture(params=[PYTHON, pytest.param(GO, marks=pytest.mark.needs("foreign-go", "ssh-agent"))])
def witness(request: pytest.FixtureRequest, store: Path, tmp_path: Path) -> Iterator[Policy]:
    """A policy that wants the cosignature of a foreign witness for the log under `store`."""
    log = load_signer(store, ORIGIN).verifier.vkey
    if request.param == PYTHON:
        running = aics_witness(request.getfixturevalue("foreign_python"), tmp_path / "witness", log)
    else:
        running = litewitness(tmp_path / "witness", log)
    with running as (vkey, url):
        yield parse_policy(policy_text(log, vkey, url).encode())


def policy_text(log: str, vkey: str, url: str = "") -> str:
    return f"log {log}\nwitness one {vkey} {url}\nquorum one\n"


def grow(store: Path, size: int, what: str = "entry") -> bytes:
    """The checkpoint of the log when it has this many entries."""
    log = Log(store, load_signer(store, ORIGIN))
    while log.size < size:
        log.append(f"{what} {log.size}".encode())
    log.publish()
    log.close()
    return (store / "log" / "checkpoint").read_bytes()


def ask(policy: Policy, store: Path, note: bytes) -> Collected:
    size = int(note.split(b"\n")[1])
    return collect(policy, note, TileReader(store / "log", size).consistency)


def test_a_foreign_witness_cosigns_our_log_as_it_grows(witness: Policy, store: Path) -> None:
    for size in (1, 2, 255, 257, 700):
        began = time.time()
        cosigned = ask(witness, store, grow(store, size))
        assert [one.error for one in cosigned.asked] == [None]
        verdict = witness.judge(cosigned.note, max_age=60)
        assert verdict.ok, verdict.reason
        at = cosigned_at(parse_note(cosigned.note), witness.witnesses[0].key)
        assert at is not None
        assert int(began) <= at <= time.time() + 1


def test_a_foreign_witness_cosigns_no_log_that_was_cut_back(witness: Policy, store: Path) -> None:
    older = grow(store, 5)
    ask(witness, store, grow(store, 9))
    (answer,) = ask(witness, store, older).asked
    assert isinstance(answer.error, Ahead)
    assert answer.error.size == 9


def test_a_foreign_witness_cosigns_no_second_past(witness: Policy, store: Path, tmp_path: Path) -> None:
    ask(witness, store, grow(store, 9))
    twin = tmp_path / "twin"
    (twin / "keys").mkdir(parents=True)
    for name in ("log.key", "log.vkey"):
        (twin / "keys" / name).write_bytes((store / "keys" / name).read_bytes())
        (twin / "keys" / name).chmod(0o600)
    for size in (9, 20):
        refused = ask(witness, twin, grow(twin, size, "another"))
        (answer,) = refused.asked
        assert isinstance(answer.error, WitnessError)
        assert not witness.judge(refused.note).ok


@pytest.mark.needs("foreign-go")
def test_torchwood_finds_the_quorum_that_we_find(witness: Policy, store: Path, tmp_path: Path) -> None:
    note = grow(store, 3)
    text = policy_text(load_verifier(store).vkey, witness.witnesses[0].key.vkey)
    path = tmp_path / "note"
    for signed, good in ((note, False), (ask(witness, store, note).note, True)):
        path.write_bytes(signed)
        assert witness.judge(signed).ok is good
        assert (logcheck([{"note": str(path), "policy": text}])[0]["note"] == "") is good


# -- the other way -----------------------------------------------------------------------------------------------------


@contextmanager
def our_witness(folder: Path, log_vkey: str, kind: str) -> Iterator[tuple[str, str]]:
    """(verifier key, address) of our witness, as a process."""
    command = [
        sys.executable,
        "-m",
        "sandtrail",
        "witness",
        "serve",
        "--home",
        str(folder),
        "--name",
        "witness.example/ours",
    ]
    command += ["--log", log_vkey, "--key", kind, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            vkey, address = (process.stdout.readline().strip() for _ in range(2))
            assert address.startswith("http://")
            yield vkey, address
        finally:
            process.terminate()


def tessera(log: Path, count: int, *more: str) -> str:
    """Append to a log of tessera's POSIX driver; its verifier key."""
    command = [str(foreign_go("tesseralog")), "-dir", str(log), "-count", str(count), *more]
    subprocess.run(command, check=True, timeout=PATIENCE_S, capture_output=True)
    return log.with_suffix(".vkey").read_text()


@pytest.mark.needs("foreign-go")
def test_our_witness_cosigns_a_foreign_log_as_it_grows(tmp_path: Path) -> None:
    """tessera publishes nothing that the witness of its policy has not cosigned."""
    log, policy = tmp_path / "log", tmp_path / "policy"
    vkey = tessera(log, 3)
    with our_witness(tmp_path / "home", vkey, "ed25519") as (witness, url):
        text = policy_text(vkey, witness, url)
        policy.write_text(text)
        for count in (1, 2, 300):
            tessera(log, count, "-policy", str(policy))
            note = (log / "checkpoint").read_bytes()
            verdict = parse_policy(text.encode()).judge(note, max_age=60)
            assert verdict.ok, verdict.reason
            assert logcheck([{"note": str(log / "checkpoint"), "policy": policy_text(vkey, witness)}]) == [{"note": ""}]
    assert check_log(log, vkey) == {"tlog": "", "fsck": "", "size": 306}


@pytest.mark.needs("foreign-go")
@pytest.mark.parametrize("kind", ["ed25519", "ml-dsa-44"])
def test_foreign_code_accepts_our_cosignatures_and_no_changed_ones(tmp_path: Path, kind: str) -> None:
    maker = Ed25519Cosigner if kind == "ed25519" else MLDSACosigner
    cosigner = maker("witness.example/ours", bytes(range(32)))
    note = load_signer(tmp_path, ORIGIN).sign(Checkpoint(ORIGIN, 7, bytes(32)).body)
    line = cosigner.line(parse_note(note).text)
    path = tmp_path / "note"
    for signed, good in ((note + line, True), (note.replace(b"\n7\n", b"\n8\n") + line, False), (note, False)):
        path.write_bytes(signed)
        said = logcheck([{"note": str(path), "cosigner": cosigner.verifier.vkey}])[0]["note"]
        assert (said == "") is good


@pytest.mark.needs("foreign-go")
def test_we_accept_an_ml_dsa_cosignature_by_foreign_code(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.write_bytes(load_signer(tmp_path, ORIGIN).sign(Checkpoint(ORIGIN, 7, bytes(32)).body))
    (said,) = logcheck([{"note": str(path), "cosign": "witness.example/theirs"}])
    assert said["note"] == ""
    key = parse_key(said["vkey"])
    assert isinstance(key, MLDSAKey)
    at = cosigned_at(parse_note(said["cosigned"].encode()), key)
    assert at is not None
    assert abs(at - time.time()) < PATIENCE_S
    assert cosigned_at(parse_note(said["cosigned"].replace("\n7\n", "\n8\n").encode()), key) is None
