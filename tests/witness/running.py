"""A witness as an operator runs it: the real command, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandtrail.store.cosignature import CosignatureKey, parse_key


@dataclass
class Running:
    """A witness that answers at `url`."""

    process: subprocess.Popen[str]
    url: str
    keys: list[CosignatureKey]

    def policy(self) -> str:
        """Lines of a policy that name its keys as witnesses w0, w1, …"""
        return "".join(f"witness w{n} {key.vkey} {self.url}\n" for n, key in enumerate(self.keys))


@contextmanager
def witness(home: Path, *options: str, before: tuple[str, ...] = ()) -> Iterator[Running]:
    """`sandtrail witness serve` on a free port; `before`: a command that runs it."""
    command = [*before, sys.executable, "-m", "sandtrail", "witness", "serve", "--home", str(home), "--port", "0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            keys: list[CosignatureKey] = []
            for line in process.stdout:
                if line.startswith("http://"):
                    break
                key = parse_key(line)
                assert isinstance(key, CosignatureKey)
                keys.append(key)
            else:
                raise AssertionError(f"the witness has not started: status {process.wait()}")
            yield Running(process, line.strip(), keys)
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()
