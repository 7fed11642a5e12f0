"""What docs/other-verifiers.md tells a stranger to type works, on a log with everything in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import CHECKOUT, foreign_go
from tests.store.mutants.base import record


@pytest.mark.needs("foreign-go")
def test_the_commands_for_strangers_find_a_good_log_good_and_a_damaged_one_not(
    tmp_path: Path, foreign_python: Path
) -> None:
    home = record(tmp_path / "home", 1).home
    text = (CHECKOUT / "docs" / "other-verifiers.md").read_text()
    keep, verify = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    folders = [Path(sys.executable).parent, foreign_go("fsck").parent, foreign_python.parent]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([*map(str, folders), os.environ["PATH"]]),
        "SANDTRAIL_HOME": str(home),
    }

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-e", "-c", script]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = run(keep + verify)
    assert done.returncode == 0, done.stderr
    assert "Successfully fsck'd log" in done.stderr
    assert done.stdout.count('"ok": true}\n') == 2
    for tile in (home / "log" / "tile" / "0" / "000", *home.glob("log/tile/0/*.p/*")):
        tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    fsck, *others = verify.splitlines()
    assert "fsck failed" in run(fsck).stderr
    assert run(others[0]).returncode != 0
