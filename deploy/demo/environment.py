"""Somebody else's programs in an environment of their own, with the hash of each file that is installed in a lock file.

An environment lies in the cache folder under a name that follows from its lock file, so that a changed lock makes a new
one and an old one is never mixed with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sandtrail.errors import MissingPartError

__all__ = ["CACHE", "Environment", "install"]

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("SANDTRAIL_CACHE") or "~/.cache/sandtrail").expanduser().absolute()


@dataclass(frozen=True)
class Environment:
    """An installed environment."""

    venv: Path

    def program(self, name: str) -> Path:
        """One of its programs."""
        return self.venv / "bin" / name

    def folders(self) -> list[Path]:
        """What a sandbox has to see of the host to run it, beside the system's own folders: the environment and the
        interpreter behind it, by the name that the environment calls it and by its real one."""
        python = self.program("python")
        interpreters = {python.readlink().parent.parent, python.resolve().parent.parent}
        return [self.venv, *sorted(folder for folder in interpreters if not folder.is_relative_to("/usr"))]


def install(name: str, lock: Path) -> Environment:
    """The environment that `lock` describes, installed now if it is not yet. Safe to call from many processes at once.

    Raises `MissingPartError` where uv is missing or the packages cannot be had.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256(lock.read_bytes() + python.encode()).hexdigest()[:12]
    venv = CACHE / "agents" / f"{name}-{key}"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        ready = venv / "complete"
        # The second look: the interpreter that the environment points to may have been removed since.
        if not (ready.exists() and (venv / "bin" / "python").exists()):
            shutil.rmtree(venv, ignore_errors=True)
            print(f"Installing {name} in an environment of its own, once.", file=sys.stderr)
            _build(name, venv, lock)
            ready.touch()
    return Environment(venv)


def _build(name: str, venv: Path, lock: Path) -> None:
    uv = str(CHECKOUT / "tools" / "uv")
    # Compiled here, because the sandbox sees these folders read-only and would compile everything at every start.
    sync = (uv, "pip", "sync", "--quiet", "--python", str(venv), "--require-hashes", "--compile-bytecode", str(lock))
    for command in ((uv, "venv", "--quiet", "--python", sys.executable, str(venv)), sync):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise MissingPartError(
                f"{name} cannot be installed; is the package index reachable?\n{done.stdout.strip()}"
            )
