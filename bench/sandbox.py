"""The sandbox that the storm runs in, and how long it takes there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandtrail.errors import MissingPartError, RuntimeFailedError

__all__ = ["Run", "Storm", "compile_c"]

_HERE = Path(__file__).parent


def compile_c(name: str, folder: Path) -> Path:
    """Compile bench/<name>.c into `folder`, static. Raises MissingPartError without a compiler."""
    if shutil.which("cc") is None:
        raise MissingPartError(
            "the bench compiles two small C programs; install a compiler: apt-get install gcc libc6-dev"
        )
    out = folder / name
    subprocess.run(["cc", "-O2", "-Wall", "-static", "-o", str(out), str(_HERE / f"{name}.c")], check=True)
    return out


@dataclass(frozen=True)
class Run:
    """One sandbox's storm.

    `wall_s` is from the runtime's start to its end, `storm_s` from the first call to the last as the storm itself saw
    it, `cpu_s` that of the runtime with all of its processes.
    """

    wall_s: float
    storm_s: float
    cpu_s: float


class Storm:
    """Runs the storm with one runsc. The bundle is made once; every run is a fresh sandbox."""

    def __init__(self, runsc: Path, platform: str, folder: Path, reads: int, execs: int) -> None:
        self.runsc = runsc
        self.platform = platform
        self.folder = folder
        self.reads, self.execs = reads, execs
        self._runs = 0
        root = folder / "root"
        for name in ("proc", "dev", "sys", "tmp"):
            (root / name).mkdir(parents=True)
        (root / "data").write_text("a line to read\n")
        shutil.copy(compile_c("storm", folder), root / "storm")

    def __enter__(self) -> Storm:
        return self

    def __exit__(self, *_: object) -> None:
        # runsc keeps an empty network namespace mounted in its state folder for sandboxes without a network.
        for line in Path("/proc/self/mounts").read_text().splitlines():
            target = line.split()[1]
            if target.startswith(str(self.folder)):
                subprocess.run(["umount", "--lazy", target], check=False)

    def _bundle(self, name: str, share: int) -> Path:
        bundle = self.folder / name
        bundle.mkdir()
        arguments = ["/storm", str(self.reads // share), str(self.execs // share)]
        spec = {
            "ociVersion": "1.0.0",
            "process": {
                "user": {"uid": 0, "gid": 0},
                "args": arguments,
                "env": [],
                "cwd": "/",
                "capabilities": {"bounding": [], "effective": [], "permitted": []},
            },
            "root": {"path": str(self.folder / "root"), "readonly": True},
            "hostname": "storm",
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")]},
        }
        (bundle / "config.json").write_text(json.dumps(spec))
        return bundle

    def run(self, session: dict[str, Any] | None, share: int = 1) -> Run:
        """Run 1/`share` of the storm in a fresh sandbox, traced as `session` says.

        Raises RuntimeFailedError when the sandbox or a call in it failed: such a run measures nothing.
        """
        self._runs += 1
        name = f"storm-{os.getpid()}-{self._runs}"
        bundle = self._bundle(name, share)
        command = [str(self.runsc), f"--root={self.folder / 'state'}", f"--platform={self.platform}", "--network=none"]
        command.append("--ignore-cgroups")
        if session is not None:
            (bundle / "trace.json").write_text(json.dumps(session))
            command.append(f"--pod-init-config={bundle / 'trace.json'}")
        begin = time.monotonic()
        with (bundle / "out").open("wb") as out, (bundle / "err").open("wb") as err:
            process = subprocess.Popen([*command, "run", "--bundle", str(bundle), name], stdout=out, stderr=err)
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        printed = (bundle / "out").read_text().split()
        if process.returncode or len(printed) != 1:
            words = (bundle / "err").read_text(errors="replace")[-2000:]
            raise RuntimeFailedError(f"the storm ended with status {process.returncode}: {words}")
        shutil.rmtree(bundle)
        return Run(wall, int(printed[0]) / 1e9, usage.ru_utime + usage.ru_stime)

    def run_together(self, sessions: list[dict[str, Any] | None]) -> list[Run]:
        """One sandbox per session, all at once, each with its equal share of the storm."""
        # run() counts before it waits, and each thread only waits for a process.
        with ThreadPoolExecutor(len(sessions)) as pool:
            return list(pool.map(lambda session: self.run(session, len(sessions)), sessions))
