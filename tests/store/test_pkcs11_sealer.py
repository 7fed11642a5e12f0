"""A recorder whose identity is in a token: the sealer as a process, and the token taken away under it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sandtrail.errors import StoreError
from sandtrail.store.keys import load_pins
from sandtrail.store.log import read_checkpoint
from sandtrail.store.spool import SpoolWriter
from sandtrail.store.verify import verify
from tests.store.recording import payloads
from tests.store.softhsm import PIN, SoftToken

pytestmark = pytest.mark.needs("softhsm")


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    """A token with a key in it, and the settings of a recorder that signs with it."""
    made = SoftToken(tmp_path / "hsm")
    made.make()
    monkeypatch.setenv("SOFTHSM2_CONF", str(made.configuration))
    monkeypatch.setenv("SANDTRAIL_KEY", made.uri())
    command = [sys.executable, "-m", "sandtrail", "key", "generate"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return made


@contextmanager
def sealer(home: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "sandtrail.store.sealer", "--home", str(home)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)
        if process.stderr:
            process.stderr.close()


def until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)


def signed(home: Path, payload: bytes) -> bool:
    try:
        return payload in payloads(home)
    except StoreError:  # not there yet, or just being replaced
        return False


def ended(process: subprocess.Popen[str]) -> str:
    """What the process says when it has failed by itself."""
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert PIN not in said
    return said


def test_a_log_is_signed_in_the_token_and_verifies_by_its_public_keys(token: SoftToken, store: Path) -> None:
    with sealer(store) as process:
        until(lambda: read_checkpoint(store / "log") is not None, process)
        with closing(SpoolWriter(store, "one")) as writer:
            writer.open({"source": "collector"}).write(b"payload")
        until(lambda: signed(store, b"payload"), process)
    assert process.returncode == 0
    assert not (store / "keys" / "log.key").exists()
    keys = [key.vkey for key in load_pins(store) if key]
    report = verify(store, keys=keys)
    assert report.ok, report.as_dict()
    assert report.key_from == "given"


def test_a_token_that_is_taken_away_stops_the_signing_and_nothing_is_lost(
    token: SoftToken, store: Path, tmp_path: Path
) -> None:
    with closing(SpoolWriter(store, "one")) as writer:
        stream = writer.open({"source": "collector"})
        with sealer(store) as process:
            stream.write(b"before")
            until(lambda: signed(store, b"before"), process)
            shutil.move(token.objects, tmp_path / "unplugged")
            stream.write(b"while it was away")
            assert "does not sign" in ended(process)
        with sealer(store) as process:
            assert "can't be reached" in ended(process)
        shutil.move(tmp_path / "unplugged", token.objects)
        with sealer(store) as process:
            until(lambda: signed(store, b"while it was away"), process)
    report = verify(store)
    assert report.ok, report.as_dict()
    assert payloads(store) == [b"before", b"while it was away"]


def test_a_wrong_pin_keeps_the_sealer_from_beginning(token: SoftToken, store: Path) -> None:
    token.write_pin("another-pin")
    with sealer(store) as process:
        assert f"refused the PIN in {token.pin_file}" in ended(process)
    assert read_checkpoint(store / "log") is None


def test_without_the_setting_a_log_of_a_token_is_not_taken_over_by_a_file(
    token: SoftToken, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sealer(store) as process:
        until(lambda: read_checkpoint(store / "log") is not None, process)
    monkeypatch.delenv("SANDTRAIL_KEY")
    with sealer(store) as process:
        assert "has no key" in ended(process)
    assert not (store / "keys" / "log.key").exists()
    assert "SANDTRAIL_KEY" not in os.environ
