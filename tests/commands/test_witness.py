"""`sandtrail witness` as an operator meets it: started, asked for its keys, stopped, and asked what it has seen."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from sandtrail.errors import WitnessError
from sandtrail.store.policy import parse_policy
from sandtrail.witness.client import add_checkpoint, collect
from tests import inside
from tests.witness.a_log import ALog
from tests.witness.running import witness


def sandtrail(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return inside.sandtrail("witness", *arguments, "--home", home)


@pytest.fixture
def log(tmp_path: Path) -> ALog:
    return ALog(tmp_path / "log")


def test_a_witness_serves_and_shows_what_it_has_seen(tmp_path: Path, log: ALog) -> None:
    home = tmp_path / "home"
    with witness(home, "--name", "witness.example.org/1", "--log", log.vkey) as running:
        policy = parse_policy(f"log {log.vkey}\n{running.policy()}group g any w0 w1\nquorum g\n".encode())
        assert policy.judge(collect(policy, log.head(5), log.reader(5).consistency).note, max_age=600).ok
        assert sandtrail("key", home=home).stdout.splitlines() == [key.vkey for key in running.keys]
        with pytest.raises(WitnessError, match="422"):
            add_checkpoint(running.url, 5, [], ALog(tmp_path / "fork", word="other").head(5), timeout=60)
    assert running.process.returncode == 0
    shown = sandtrail("evidence", home=home)
    assert shown.returncode == 1
    assert shown.stdout.startswith("fork log.example/1 ")
    assert "not checked" not in shown.stdout
    (found,) = json.loads(sandtrail("evidence", "--json", home=home).stdout)
    assert (found["kind"], found["proven"], found["holds"], found["origin"]) == ("fork", True, True, "log.example/1")
    assert found["held"].startswith(log.checkpoint(5).body)
    # Anybody else can check the file, wherever they have it.
    sent = tmp_path / "sent.json"
    sent.write_bytes(Path(found["path"]).read_bytes())
    (checked,) = json.loads(sandtrail("evidence", str(sent), "--log", log.vkey, "--json", home=tmp_path).stdout)
    assert checked["holds"]


def test_nothing_to_show_is_no_failure(tmp_path: Path) -> None:
    nothing = sandtrail("evidence", home=tmp_path)
    assert (nothing.returncode, nothing.stdout) == (0, "nothing is held against any log\n")


def test_names_in_evidence_cannot_act_on_a_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "witness" / "evidence" / "x"
    folder.mkdir(parents=True)
    hostile = {"kind": "fork", "origin": "\x1b[2J[red]x", "seen": 1, "held": "", "submitted": "", "old": 0, "proof": []}
    (folder / "fork-1.json").write_text(json.dumps(hostile))
    done = sandtrail("evidence", home=tmp_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "not checked" in done.stdout
    assert r"\x1b[2J[red]x" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("serve", "--log", "nonsense"), "not a verifier key"),
        (("serve", "--key", "rsa"), "no type of key"),
        (("serve", "--name", "two words"), "cannot name a witness"),
        (("key",), "there is no witness under"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    done = sandtrail(*arguments, home=tmp_path)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said_to_be(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = sandtrail("serve", "--port", str(taken.getsockname()[1]), home=tmp_path)
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1" in done.stderr
