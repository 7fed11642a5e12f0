"""`sandtrail key`: what is to be pinned elsewhere, and a private key made in a token."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sandtrail.store.keys import load_pins
from sandtrail.store.note import Verifier
from sandtrail.store.sealer import Sealer
from tests.inside import sandtrail
from tests.store.softhsm import PIN, SoftToken

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SANDTRAIL_HOME", str(tmp_path / "home"))

    def sandtrail(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sandtrail", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    return sandtrail


@pytest.mark.usefixtures("run")
def test_key_prints_what_verify_can_be_given(tmp_path: Path) -> None:
    Sealer(tmp_path / "home").stop()
    identity, epoch = load_pins(tmp_path / "home")
    assert epoch is not None
    done = sandtrail("key")
    assert done.returncode == 0, done.stderr
    assert [Verifier.parse(line) for line in done.stdout.splitlines()] == [identity, epoch]
    assert json.loads(sandtrail("key", "--json").stdout) == {"identity": identity.vkey, "epoch": epoch.vkey}


def test_key_of_a_home_without_a_log_says_so(run: Run) -> None:
    done = run("key")
    assert done.returncode == 2
    assert "there is no log under" in done.stderr


@pytest.mark.needs("softhsm")
def test_key_generate_makes_a_key_and_shows_no_pin(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = SoftToken(tmp_path / "hsm")
    token.make()
    monkeypatch.setenv("SOFTHSM2_CONF", str(token.configuration))
    done = run("key", "generate", "--pkcs11", token.uri(), "--json")
    assert done.returncode == 0, done.stderr
    assert len(base64.b64decode(json.loads(done.stdout)["public"])) == 32
    again = run("key", "generate", "--pkcs11", token.uri())
    assert again.returncode == 2
    assert "already" in again.stderr
    monkeypatch.setenv("SANDTRAIL_KEY", token.uri("object=other"))
    by_setting = run("key", "generate")
    assert "made key 'other'" in by_setting.stdout, by_setting.stderr
    assert PIN not in done.stdout + done.stderr + again.stdout + again.stderr + by_setting.stdout + by_setting.stderr


@pytest.mark.parametrize("uri", ["file", "pkcs11:token=a;object=b?module-path=/m.so&pin-value=hunter2"])
def test_key_generate_wants_a_uri_and_repeats_no_pin(run: Run, uri: str) -> None:
    done = run("key", "generate", "--pkcs11", uri)
    assert done.returncode == 2
    assert "sandtrail:" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
