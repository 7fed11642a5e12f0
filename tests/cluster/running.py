"""A cluster's log as an operator runs it: the real command, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandtrail.store.note import Verifier


@dataclass
class Running:
    """A cluster's log that is served at `url`; `cosigners` are the keys that answer nodes, one of each type."""

    process: subprocess.Popen[str]
    url: str
    key: Verifier
    cosigners: list[str]

    def policy(self) -> str:
        """A line of a policy that names it as the witness `cluster`."""
        return f"witness cluster {self.cosigners[-1]} {self.url}\n"


@contextmanager
def cluster(home: Path, *options: str, port: int = 0) -> Iterator[Running]:
    """`sandtrail cluster serve`; port 0: a free one."""
    command = [sys.executable, "-m", "sandtrail", "cluster", "serve", "--home", str(home), "--port", str(port)]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            lines = []
            for line in process.stdout:
                lines.append(line.strip())
                if line.startswith("http://"):
                    break
            else:
                raise AssertionError(f"the cluster's log has not started: status {process.wait()}")
            yield Running(process, lines[-1], Verifier.parse(lines[0]), lines[1:-1])
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()
