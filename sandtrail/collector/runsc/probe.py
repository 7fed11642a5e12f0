"""Starts a sandbox that does nothing, to see whether a platform and a network mode work on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from sandtrail.collector.network import namespaces
from sandtrail.collector.runsc.elf import exit_program

__all__ = ["can_start"]

_PATIENCE_S = 20


def can_start(runsc: Path, platform: str, network: str, flags: frozenset[str]) -> str | None:
    """None when a sandbox starts and ends as it should, else why it does not, in runsc's words."""
    name = f"st-probe-{os.getpid()}"
    folder = Path(tempfile.mkdtemp(prefix="sandtrail-probe-"))
    try:
        namespaces.create(name)
        _bundle(folder, name)
        overlay = "--overlay2=root:memory" if "overlay2" in flags else "--overlay"
        options = [f"--root={folder / 'state'}", f"--platform={platform}", f"--network={network}", overlay]
        command = [str(runsc), *options, "--ignore-cgroups", "run", f"--bundle={folder}", name]
        return _outcome(command)
    finally:
        namespaces.delete(name)
        # Newer versions keep an empty network namespace mounted in their state folder.
        subprocess.run(["umount", str(folder / "state" / "null-netns")], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _outcome(command: list[str]) -> str | None:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        words, _ = process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"nothing happened for {_PATIENCE_S} s"
    if process.returncode == 0:
        return None
    lines = words.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else f"exit status {process.returncode} without a word"


def _bundle(folder: Path, namespace: str) -> None:
    root = folder / "root"
    root.mkdir()
    program = root / "exit"
    program.write_bytes(exit_program())
    program.chmod(0o755)
    spec = {
        "ociVersion": "1.0.0",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/exit"], "env": [], "cwd": "/"},
        "root": {"path": "root", "readonly": True},
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in ("pid", "mount", "ipc", "uts")),
                {"type": "network", "path": str(namespaces.NETNS / namespace)},
            ]
        },
    }
    (folder / "config.json").write_text(json.dumps(spec))
