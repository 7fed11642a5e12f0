"""The programs of a few bytes run on this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sandtrail.collector.runsc.elf import exit_program, pause_program


def _program(folder: Path, data: bytes) -> str:
    path = folder / "program"
    path.write_bytes(data)
    path.chmod(0o755)
    return str(path)


def test_the_one_exits(tmp_path: Path) -> None:
    assert subprocess.run([_program(tmp_path, exit_program())], timeout=10, check=False).returncode == 0


def test_the_other_waits_until_it_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([_program(tmp_path, pause_program())])
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    assert process.wait(10) == -9
