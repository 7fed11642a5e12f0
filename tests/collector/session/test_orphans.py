"""What runsc leaves behind becomes ours, and is reaped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path
from sandtrail.collector.session.orphans import Orphans

def children():
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]

folder = Path(sys.argv[1])
with Orphans(folder) as orphans:
    other = subprocess.Popen(["true"])
    # Who starts the helper leaves at once, as runsc does; the helper itself ends before anybody looks.
    subprocess.run(["sh", "-c", f"{folder}/exe & echo $! > {folder}/pid"], check=True)
    helper = int((folder / "pid").read_text())
    for pid in (helper, other.pid):
        while " Z " not in Path(f"/proc/{pid}/stat").read_text():
            time.sleep(0.01)
    orphans.look()
    deadline = time.monotonic() + 60
    while helper in children() and time.monotonic() < deadline:
        time.sleep(0.01)
    print(orphans.ended(helper).si_status, other.pid in children(), other.wait())
"""


def test_a_helper_that_died_before_anybody_looked_is_reaped_and_nobody_elses_child_is(tmp_path: Path) -> None:
    (tmp_path / "exe").symlink_to("/bin/true")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["0", "True", "0"]
