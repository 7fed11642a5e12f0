"""Programs of others that the bench measures beside us: got once, kept where the tests keep them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from bench.report import Figures
from sandtrail.errors import MissingPartError

__all__ = ["python", "tessera"]

_CHECKOUT = Path(__file__).resolve().parent.parent
_CACHE = Path(os.environ.get("SANDTRAIL_CACHE") or Path("~/.cache/sandtrail").expanduser())


@cache
def python() -> Path:
    """An interpreter that has aics-tlog and nothing of ours (tests/conftest.py makes and names it in the same way)."""
    lock = _CHECKOUT / "requirements" / "foreign.lock"
    key = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = _CACHE / "foreign" / key
    interpreter = folder / "bin" / "python"
    if not (folder / "complete").exists():
        uv = str(_CHECKOUT / "tools" / "uv")
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        _run([uv, "pip", "install", "--quiet", "--python", str(interpreter), "--require-hashes", "-r", str(lock)])
        (folder / "complete").touch()
    return interpreter


@cache
def _tesseralog() -> Path:
    return Path(_run([str(_CHECKOUT / "tools" / "foreign" / "build")]).strip()) / "tesseralog"


def tessera(folder: Path, count: int, size: int, batch: int, core: int) -> Figures:
    """Append to a log of Tessera's POSIX driver on one core; `seconds` until every entry is durable and in the tree."""
    folder.mkdir(parents=True)
    command = ["taskset", "--cpu-list", str(core), str(_tesseralog()), "-dir", str(folder / "log")]
    command += ["-count", str(count), "-size", str(size), "-batch", str(batch), "-window", str(max(4096, 4 * batch))]
    said = json.loads(_run(command, GOMAXPROCS="1"))
    return {"frames": said["entries"], "seconds": said["durable_s"]}


def _run(command: list[str], **env: str) -> str:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingPartError(f"it cannot run here; try: {' '.join(command)}\n{done.stderr.strip()[-500:]}")
    return done.stdout
