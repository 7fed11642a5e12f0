"""The agent of the demonstration: mini-swe-agent, from its public package, in an environment of its own.

The environment lies in the cache folder under a name that follows from the lock file, so that a changed lock makes a
new one and an old one is never mixed with it. Every file that is installed has its hash in `agent.lock`.
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

LOCK = Path(__file__).with_name("agent.lock")
CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("SANDTRAIL_CACHE") or "~/.cache/sandtrail").expanduser().absolute()


@dataclass(frozen=True)
class Agent:
    """An installed agent in its virtual environment."""

    venv: Path

    @property
    def command(self) -> Path:
        """The program to start."""
        return self.venv / "bin" / "mini"

    def folders(self) -> list[Path]:
        """What a sandbox has to see of the host to run it, beside the system's own folders: the environment and the
        interpreter behind it, by the name that the environment calls it and by its real one."""
        python = self.venv / "bin" / "python"
        interpreters = {python.readlink().parent.parent, python.resolve().parent.parent}
        return [self.venv, *sorted(folder for folder in interpreters if not folder.is_relative_to("/usr"))]


def install() -> Agent:
    """The agent, installed now if it is not yet. Safe to call from many processes at once.

    Raises `MissingPartError` where uv is missing or the packages cannot be had.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256(LOCK.read_bytes() + python.encode()).hexdigest()[:12]
    venv = CACHE / "agents" / f"mini-swe-agent-{key}"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_suffix(".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        ready = venv / "complete"
        # The second look: the interpreter that the environment points to may have been removed since.
        if not (ready.exists() and (venv / "bin" / "python").exists()):
            shutil.rmtree(venv, ignore_errors=True)
            _build(venv)
            ready.touch()
    return Agent(venv)


def _build(venv: Path) -> None:
    uv = str(CHECKOUT / "tools" / "uv")
    print("Installing mini-swe-agent in an environment of its own, once.", file=sys.stderr)
    _run(uv, "venv", "--quiet", "--python", sys.executable, str(venv))
    # Compiled here, because the sandbox sees these folders read-only and would compile everything at every start.
    _run(uv, "pip", "sync", "--quiet", "--python", str(venv), "--require-hashes", "--compile-bytecode", str(LOCK))


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise MissingPartError(
            f"the demonstration's agent cannot be installed; is the package index reachable?\n{done.stdout.strip()}"
        )
