"""`sandtrail verify` and `sandtrail prove`, as they are called."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sandtrail.commands.verify import read_keys
from sandtrail.errors import UsageError
from sandtrail.store.cosignature import Ed25519Cosigner
from sandtrail.store.keys import load_pins
from sandtrail.store.layout import Layout
from sandtrail.store.log import read_checkpoint
from sandtrail.store.note import parse_note
from sandtrail.store.sealer import Sealer
from sandtrail.store.spool import SpoolWriter
from tests.inside import sandtrail

Run = Callable[..., subprocess.CompletedProcess[str]]
WITNESS = Ed25519Cosigner("witness.example/one", bytes(range(32)))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    writer = SpoolWriter(home, "source")
    writer.open({"source": "test"}).write(b"evidence [bold]\x1b[31m")
    writer.close()
    Sealer(home).stop()
    return home


@pytest.fixture
def run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SANDTRAIL_HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return sandtrail


def test_a_good_store_a_damaged_one_and_none(run: Run, home: Path, tmp_path: Path) -> None:
    done = run("verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("verified\n")
    assert "not checked: step 12, witnesses" in done.stdout
    blob = Layout(home).segment(0)
    blob.write_bytes(blob.read_bytes() + b"?")
    done = run("verify")
    assert done.returncode == 1
    assert "✗ step 8: blob-damaged at segment 0" in done.stdout
    assert "NOT verified: 1 findings; all other evidence that was checked can still be trusted" in done.stdout
    done = run("verify", "--quick")
    assert done.returncode == 0
    assert "not checked: step 8, blobs: --quick leaves it out" in done.stdout
    assert "grew from the remembered" in done.stdout
    assert run("verify", "--home", str(tmp_path / "none")).returncode == 2


def test_what_an_intruder_named_does_not_reach_the_terminal(run: Run, home: Path) -> None:
    (Layout(home).segments / "\x1b]0;evil\x07[bold]x").touch()
    done = run("verify")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "\\x1b]0;evil\\x07[bold]x" in done.stdout
    said = json.loads(run("verify", "--json").stdout)
    assert said["findings"][0]["place"].endswith("\x1b]0;evil\x07[bold]x")


def test_json_says_the_same_to_programs(run: Run, home: Path) -> None:
    keys = str(Layout(home).vkey)
    said = json.loads(run("verify", "--json", "--key", keys, "--stored", "--resume", "--jobs", "1").stdout)
    assert (said["ok"], said["mode"], said["key_from"], said["findings"]) == (True, "stored", "given", [])
    states = {step["step"]: step["state"] for step in said["steps"]}
    assert [step for step, state in states.items() if state != "passed"] == [3, 9, 12]
    Layout(home).segment(0).unlink()
    done = run("verify", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["ok"]) == (1, False)
    assert said["findings"][0]["affected"]["segments"] == [0, 0]


def test_witnesses_are_asked_for_by_a_policy(run: Run, home: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text(f"witness one {WITNESS.verifier.vkey}\ngroup g all one\nquorum g\n")
    done = run("verify", "--policy", str(policy))
    assert done.returncode == 1
    assert "step 12: not-witnessed" in done.stdout
    note = read_checkpoint(Layout(home).log) or b""
    seen = Layout(home).witnessed / "checkpoint"
    seen.parent.mkdir(exist_ok=True)
    seen.write_bytes(note + WITNESS.line(parse_note(note).text))
    done = run("verify", "--policy", str(policy), "--max-age", "1h")
    assert (done.returncode, "witnessed 5 of 5 entries" in done.stdout) == (0, True), done.stdout
    seen.write_bytes(note + WITNESS.line(parse_note(note).text, 1000))
    done = run("verify", "--policy", str(policy), "--max-age", "1h")
    assert (done.returncode, "too old" in done.stdout) == (1, True)


def test_a_frame_is_proven_to_somebody_without_the_store(run: Run, home: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text(Layout(home).vkey.read_text())
    assert run("prove", "0.1").returncode == 0
    proof = tmp_path / "0.1.tlog-proof"
    home.rename(tmp_path / "elsewhere")
    done = run("verify", str(proof), "--key", str(keys))
    assert done.returncode == 0, done.stderr
    for words in ("this frame is in the log", "payload   20 bytes", "epoch     signed in epoch 0", "not proven: "):
        assert words in done.stdout
    said = json.loads(run("verify", str(proof), "--key", str(keys), "--json").stdout)
    assert (said["ok"], said["frame"], said["payload_bytes"], said["epoch"]) == (True, "0.1", 20, 0)
    proof.write_bytes(re.sub(rb"index \d+", b"index 0", proof.read_bytes()))
    done = run("verify", str(proof), "--key", str(keys))
    assert (done.returncode, "NOT verified" in done.stdout) == (1, True)
    for refused in (["--home", "."], ["--quick"], ["--resume"]):
        assert run("verify", str(proof), "--key", str(keys), *refused).returncode == 2


def test_many_frames_are_proven_in_one_file(run: Run, home: Path, tmp_path: Path) -> None:
    keys = str(Layout(home).vkey)
    assert run("prove", "0.0", "0.1", "-o", "some.zip").returncode == 0
    done = run("verify", "some.zip", "--key", keys)
    assert done.returncode == 0, done.stderr
    assert "verified: 2 of 2 frames are in the log" in done.stdout
    with zipfile.ZipFile("some.zip", "a") as bundle:
        bundle.writestr("proofs/0.7.tlog-proof", bundle.read("proofs/0.1.tlog-proof"))
    said = json.loads(run("verify", "some.zip", "--key", keys, "--json").stdout)
    assert [(frame["ok"], frame["name"]) for frame in said["frames"]] == [
        (True, "proofs/0.0.tlog-proof"),
        (True, "proofs/0.1.tlog-proof"),
        (False, "proofs/0.7.tlog-proof"),
    ]
    done = run("verify", "some.zip", "--key", keys)
    assert (done.returncode, "2 of 3 frames" in done.stdout) == (1, True)
    assert run("prove", "--session", "nobody").returncode == 2
    assert run("prove").returncode == 2


def test_what_cannot_be_checked_ends_with_2(run: Run, tmp_path: Path) -> None:
    proof = tmp_path / "p"
    proof.write_bytes(b"c2sp.org/tlog-proof@v1\n")
    for arguments in (
        ["verify", str(proof)],
        ["verify", str(tmp_path / "none"), "--key", "a+b"],
        ["verify", "--quick", "--stored"],
        ["verify", "--max-age", "1h"],
        ["verify", "--key", "nonsense"],
        ["prove", "nonsense"],
        ["prove", "99.0"],
        ["prove", "0.1", "-o", str(tmp_path / "no" / "folder")],
    ):
        done = run(*arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert done.stderr.startswith("sandtrail:")


def test_keys_come_as_they_are_or_in_files(home: Path, tmp_path: Path) -> None:
    identity, epoch = load_pins(home)
    assert epoch is not None
    assert read_keys([str(Layout(home).vkey)]) == [identity.vkey, epoch.vkey]
    assert read_keys([identity.vkey]) == [identity.vkey]
    (tmp_path / "empty").touch()
    for wrong in (str(tmp_path / "empty"), str(tmp_path / "none"), ""):
        with pytest.raises(UsageError):
            read_keys([wrong])
