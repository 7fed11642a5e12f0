"""What runsc leaves behind becomes ours, and is reaped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path
from sandtrail.collector.session.orphans import Orphans

folder = Path(sys.argv[1])
# Who starts the helper leaves at once, as runsc does; the helper itself ends before anybody looks.
START = "import os, sys; print(os.posix_spawn(sys.argv[1], sys.argv[1:], {}))"
with Orphans(folder) as orphans:
    other = subprocess.Popen(["false"])
    started = subprocess.run([sys.executable, "-c", START, folder / "exe"], capture_output=True, check=True)
    helper = int(started.stdout)
    for pid in (helper, other.pid):
        while ") Z " not in Path(f"/proc/{pid}/stat").read_text():
            time.sleep(0.01)
    deadline = time.monotonic() + 60
    while orphans.ended(helper) is None and time.monotonic() < deadline:
        orphans.look()
        time.sleep(0.01)
    print(orphans.ended(helper), other.wait())
"""


def test_a_helper_that_died_before_anybody_looked_is_reaped_and_nobody_elses_child_is(tmp_path: Path) -> None:
    (tmp_path / "exe").symlink_to("/bin/true")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert "si_status=0" in done.stdout, done.stderr
    assert done.stdout.endswith(" 1\n"), "the status of somebody else's child was taken away"
