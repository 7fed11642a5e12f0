from __future__ import annotations

import subprocess
import sys
import time

from bench.process import cpu_seconds, descendants, peak_rss

_BURN = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"


def test_cpu_counts_a_process_and_its_ended_children() -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_BURN.format(0.3)!r}]); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while (used := cpu_seconds(process.pid)) < 0.3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert 0.3 <= used < 3


def test_cpu_of_a_process_that_is_gone_is_nothing() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert cpu_seconds(done.pid) == 0


def test_descendants_are_found_through_their_parents() -> None:
    with subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; read line; kill $!"], stdin=-1, stdout=-1, text=True
    ) as shell:
        assert shell.stdout is not None
        sleeper = int(shell.stdout.readline())
        assert sleeper in descendants(shell.pid)
        shell.communicate("\n")


def test_peak_memory_counts_a_process_and_what_it_starts() -> None:
    child = "import time; held = b'x' * (60 << 20); time.sleep(1)"
    parent = f"import subprocess, sys; held = b'x' * (40 << 20); subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        peak = peak_rss(process.pid)
        process.wait()
    assert 100 << 20 < peak < 250 << 20
