"""A real recording is erased: refused while it runs, and nothing of it is left when it has ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sandtrail.store.reader import open_log
from tests.commands.test_erase import MARK, VICTIM, remains, told, verified, wait_for

pytestmark = pytest.mark.needs("root", "runsc", "ip", "nft")


def test_a_recording_that_was_erased_leaves_nothing(home: Path) -> None:
    script = f"echo {MARK} > /tmp/{MARK}; cat /tmp/{MARK}; read line; cat /{MARK}"
    command = [sys.executable, "-m", "sandtrail", "record", "--home", str(home), "--name", VICTIM, "--quiet"]
    recording = subprocess.Popen([*command, "--", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert recording.stdin is not None
    assert recording.stdout is not None
    assert recording.stdout.readline().strip() == MARK.encode()
    wait_for(lambda: (home / "log" / "checkpoint").exists() and open_log(home).size() > 3)
    status, said = told(home, "erase", VICTIM, "--reason", "x", "--yes")
    assert (status, "is being recorded" in said) == (2, True)
    recording.communicate(b"go on\n", timeout=120)
    assert {name.split("/")[0] for name in remains(home)} >= {"events", "sessions", "keys", "run"}
    status, said = told(home, "erase", VICTIM, "--reason", "asked for", "--yes")
    assert status == 0, said
    assert remains(home) == set()
    words = (home / "run" / "keeper.log").read_text()
    assert f'"session": "{"-" * len(VICTIM)}"' in words
    assert verified(home)
