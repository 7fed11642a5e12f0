"""Runs `record` in processes of their own, as the command line does, and looks at what they leave behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandtrail.collector.network import namespaces
from sandtrail.collector.network.wire import namespace_names
from sandtrail.collector.session.state import process_start
from tests import parts

_NUMBERS = itertools.count(1)
RECORD = """
import json, sys
from pathlib import Path
from sandtrail.collector.session.boundary import Boundary
from sandtrail.collector.session.options import RecordOptions, parse_mount
from sandtrail.collector.session.record import record
options = json.loads(sys.argv[1])
if "rootfs" in options:
    options["rootfs"] = Path(options["rootfs"])
if "upstream" in options:
    options["boundary"] = Boundary(upstream=options.pop("upstream"))
options["mounts"] = tuple(map(parse_mount, options.get("mounts", ())))
result = record(RecordOptions(Path(options.pop("home")), tuple(options.pop("command")), **options))
sys.exit(result.exit_status)
"""


class Recorder:
    """Runs `record` in a process of its own, as the command line does."""

    def __init__(self, home: Path, runsc: parts.Runsc) -> None:
        self.home = home
        self.runsc = runsc

    @staticmethod
    def name() -> str:
        """A session id that no other test uses."""
        return f"t{os.getpid()}-{next(_NUMBERS)}"

    def start(self, *command: str, **options: Any) -> tuple[str, subprocess.Popen[str]]:
        name = self.name()
        document = {"home": str(self.home), "command": command, "runsc": str(self.runsc.path), "name": name, **options}
        process = subprocess.Popen(
            [sys.executable, "-c", RECORD, json.dumps(document)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return name, process

    def run(self, *command: str, stdin: str = "", **options: Any) -> tuple[str, subprocess.CompletedProcess[str]]:
        name, process = self.start(*command, **options)
        out, err = process.communicate(stdin, timeout=90)
        return name, subprocess.CompletedProcess(command, process.returncode, out, err)

    def running(self, before: str, script: str) -> tuple[str, subprocess.Popen[str]]:
        """Start a shell script, and return when it has done the first of two parts."""
        name, process = self.start("sh", "-c", f"{before}\necho up\n{script}")
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n", process.communicate()
        return name, process

    def sentry(self, name: str) -> int:
        """The pid of the sandbox's kernel."""
        mark = f"--root={self.home / 'run' / 'runsc' / name}"
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if entry.name.isdigit() and mark in arguments and "boot" in arguments:
                    return int(entry.name)
        raise AssertionError("no sentry")


def nothing_left(home: Path, name: str) -> bool:
    """Whether a session has left nothing on this machine."""
    mark = str(home / "run" / "runsc" / name)
    lines = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and process_start(int(entry.name)) is not None:
                lines.append((entry / "cmdline").read_bytes().decode(errors="replace"))
    return not (
        any(mark in line for line in lines)
        or mark in Path("/proc/self/mountinfo").read_text()
        or any((namespaces.NETNS / namespace).exists() for namespace in namespace_names(name))
        or any((home / "run" / folder / name).exists() for folder in ("runsc", "bundles"))
        or (home / "run" / "sessions" / f"{name}.json").exists()
    )


def eventually(check: Callable[..., bool], *arguments: Any, timeout: float = 60.0) -> bool:
    """Whether a check comes true in time."""
    deadline = time.monotonic() + timeout
    while not check(*arguments):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    return process_start(pid) is None
