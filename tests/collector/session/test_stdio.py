"""The command's output and ours do not overwrite each other in a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
from sandtrail.collector.session.stdio import Stdio
os.write(1, b"before\\n")
with Stdio() as stdio:
    # A sandbox writes at an offset of its own, from the start of what it was given.
    for fd, text in ((stdio.fds[1], b"out\\n" * 50_000), (stdio.fds[2], b"err\\n")):
        view = memoryview(text)
        while view:
            try:
                view = view[os.pwrite(fd, view, 0):]
            except OSError:
                view = view[os.write(fd, view):]
os.write(1, b"after\\n")
print(stdio.fds[1] != 1, file=sys.stderr)
"""


def test_in_a_file_everything_is_there_in_order(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as output:
        subprocess.run([sys.executable, "-c", PROGRAM], stdout=output, stderr=output, check=True, timeout=30)
    lines = file.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[-2:] == ["after", "True"]
    assert lines.count("out") == 50_000
    assert lines.count("err") == 1


def test_a_pipe_is_handed_on_as_it_is() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr.splitlines()[-1] == "False"
