"""Finds runsc and finds out what it can do here: its version, its flags, its trace points, a platform and a network
mode that really start. What was found is kept by binary and kernel, so that only the first run pays for it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from sandtrail.collector.runsc import trace
from sandtrail.collector.runsc.probe import can_start
from sandtrail.errors import EnvironmentRefusedError, MissingPartError, RuntimeFailedError, UsageError

__all__ = ["Network", "Platform", "Runsc", "find", "identify"]

Platform = Literal["systrap", "ptrace"]
Network = Literal["sandbox", "host"]
_FORMAT = 2  # of the kept findings


@dataclass(frozen=True)
class Runsc:
    """A runsc binary and what it can do on this machine. `reasons` says why `platform` and `network` were chosen."""

    path: Path
    version: str
    flags: frozenset[str]
    metadata: trace.Metadata
    platform: str
    network: str
    reasons: tuple[str, ...]

    @property
    def overlay(self) -> str:
        """The flag that puts a writable layer in memory over a read-only root."""
        return "--overlay2=root:memory" if "overlay2" in self.flags else "--overlay"


def cache_folder() -> Path:
    """`$SANDTRAIL_CACHE`, else ~/.cache/sandtrail."""
    return Path(os.environ.get("SANDTRAIL_CACHE") or Path("~/.cache/sandtrail").expanduser())


def find(named: str | Path | None = None) -> Path:
    """The runsc to use: the one named, `$SANDTRAIL_RUNSC`, the one that `make runsc` built, the one on PATH.

    What was built on purpose comes before what the distribution happens to have. Raises UsageError when the named one
    is no program, MissingPartError when there is none.
    """
    wanted = named or os.environ.get("SANDTRAIL_RUNSC")
    if wanted:
        path = shutil.which(str(wanted))
        if path is None:
            raise UsageError(f"{wanted} is no program that can be run; --runsc and SANDTRAIL_RUNSC name a runsc binary")
        return Path(path).resolve()
    for candidate in (str(cache_folder() / "bin" / "runsc"), "runsc"):
        if found := shutil.which(candidate):
            return Path(found).resolve()
    raise MissingPartError("runsc, gVisor's runtime, is not installed: apt-get install runsc, or make runsc")


def _output(path: Path, *arguments: str) -> str:
    done = subprocess.run([path, *arguments], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise RuntimeFailedError(f"{path} {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
    return done.stdout + done.stderr


def _facts(path: Path) -> dict[str, str]:
    """What this binary prints about itself."""
    version = re.search(r"^runsc version (\S+)", _output(path, "--version"), re.MULTILINE)
    if version is None:
        raise UsageError(f"{path} is not runsc: it does not say `runsc version …`")
    return {"version": version[1], "flags": _output(path, "flags"), "metadata": _output(path, "trace", "metadata")}


def _candidates(flags: str, only_platform: str, only_network: str) -> Iterator[tuple[str, str]]:
    mentioned = re.search(r"-platform string\n(.*)", flags)
    platforms = [name for name in get_args(Platform) if mentioned and name in mentioned[1]] or ["ptrace"]
    for name in [only_platform] if only_platform else platforms:
        for network in [only_network] if only_network else get_args(Network):
            yield name, network


def _choose(path: Path, facts: dict[str, str], only_platform: str, only_network: str) -> dict[str, object]:
    """The first pair of platform and network mode with which a sandbox starts, best isolation first."""
    reasons: list[str] = []
    flags = frozenset(re.findall(r"^  -(\S+)", facts["flags"], re.MULTILINE))
    for name, network in _candidates(facts["flags"], only_platform, only_network):
        refusal = can_start(path, name, network, flags)
        if refusal is None:
            reasons.append(f"platform {name}, network {network}: a sandbox starts")
            return {**facts, "platform": name, "network": network, "reasons": reasons}
        reasons.append(f"platform {name}, network {network}: {refusal}")
    raise EnvironmentRefusedError(f"{path} starts no sandbox on this kernel: " + "; ".join(reasons))


def identify(path: Path, *, only_platform: str = "", only_network: str = "") -> Runsc:
    """Find out what the runsc at `path` can do here; `only_…` force a choice instead of trying.

    Raises UsageError (not runsc), EnvironmentRefusedError (no sandbox starts), RuntimeFailedError (its own words).
    """
    stat = path.stat()
    key = json.dumps(
        [_FORMAT, str(path), stat.st_size, stat.st_mtime_ns, platform.release(), only_platform, only_network]
    )
    kept = cache_folder() / "probe" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    try:
        found = json.loads(kept.read_text())
    except (OSError, ValueError):
        found = _choose(path, _facts(path), only_platform, only_network)
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary = kept.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(found))
            temporary.rename(kept)
        except OSError:
            pass  # a cache that cannot be written only costs the next run its second
    return Runsc(
        path,
        found["version"],
        frozenset(re.findall(r"^  -(\S+)", found["flags"], re.MULTILINE)),
        trace.parse_metadata(found["metadata"]),
        found["platform"],
        found["network"],
        tuple(found["reasons"]),
    )


def describe(runsc: Runsc) -> dict[str, object]:
    """What the record says about the runtime that was used."""
    facts = asdict(runsc)
    return {name: str(facts[name]) for name in ("path", "version", "platform", "network")} | {
        "reasons": list(runsc.reasons)
    }
