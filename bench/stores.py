"""Stores of millions of frames: made once a run, by a process of their own whose memory is watched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.process import peak_rss
from bench.report import Figures
from sandtrail.errors import StoreError

__all__ = ["CHUNK", "MOST", "measured", "store"]

CHUNK = 1 << 16
"""Frames in memory at once while a store is made."""
MOST = 10_000_000
_CHECKOUT = Path(__file__).resolve().parent.parent


def store(folder: Path, frames: int) -> Path:
    """The store of so many frames under `folder`; made where there is none."""
    home = folder / str(frames)
    if not home.exists():
        make(home, frames)
    return home


def make(home: Path, frames: int) -> Figures:
    """Append so many frames to a new store; what the writer said, and the most memory that it had."""
    said = measured("bench.writers.sandtrail", str(home), str(frames), str(CHUNK))
    if said["frames"] != frames:
        raise StoreError(f"of {frames} frames only {said['frames']} are signed in {home}")
    return said


def measured(module: str, *arguments: str, watch: bool = True) -> Figures:
    """Run a program of the bench; the JSON that it prints. Watched, it has `peak_mib` too: the memory of all of its
    processes together at its highest (resident pages, shared ones counted in each)."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=_CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        peak = peak_rss(process.pid) if watch else 0
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode:
        raise StoreError(f"{' '.join(command)} ended with status {process.returncode}")
    said: Figures = json.loads(printed)
    return {**said, "peak_mib": max(peak / 2**20, said.get("rss_mib", 0))} if watch else said
