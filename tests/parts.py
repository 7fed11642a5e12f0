"""The programs and permissions that tests may need: how each is found, and the command that gets it."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
# Where `make runsc` and `make runsc-all` leave what they build: outside of the checkout, so that clones share it.
CACHE = Path(os.environ.get("SANDTRAIL_CACHE") or Path("~/.cache/sandtrail").expanduser())


@dataclass(frozen=True)
class Runsc:
    """One runsc binary. `label` is "distribution" for the packaged one, else the pinned version's month."""

    label: str
    path: Path

    @property
    def platform(self) -> str:
        """The platform that works everywhere with this version: systrap came after Debian 12's package."""
        return "ptrace" if self.label == "distribution" else "systrap"


def built_runsc(label: str) -> Path:
    """Where the pinned runsc of tools/runsc/<label> lies once it is built (the Makefile names it the same way)."""
    pins = CHECKOUT / "tools" / "runsc" / label
    key = hashlib.sha256((pins / "go.mod").read_bytes() + (pins / "go.sum").read_bytes()).hexdigest()[:12]
    return CACHE / "runsc" / f"{label}-{key}" / "runsc"


@cache
def foreign_go(program: str) -> Path:
    """Where a program of tools/foreign lies once `make foreign` has built it (its build script names it as here)."""
    folder = CHECKOUT / "tools" / "foreign"
    # In the order in which the shell puts them together: the C locale's.
    sources = [folder / "go.mod", folder / "go.sum", *sorted(folder.glob("*/*.go"))]
    key = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    return CACHE / "foreign-go" / key / program


RUNSC_LABELS = ("distribution", "2025-02", "2026-09")


@cache
def runsc(label: str) -> Runsc | None:
    """The runsc of this label, or None where it is not here."""
    path = Path("/usr/bin/runsc") if label == "distribution" else built_runsc(label)
    return Runsc(label, path) if os.access(path, os.X_OK) else None


@cache
def newest_runsc() -> Runsc | None:
    """The newest pinned runsc that is here; then whatever PATH has."""
    for label in reversed(RUNSC_LABELS):
        if found := runsc(label):
            return found
    on_path = shutil.which("runsc")
    return Runsc("distribution", Path(on_path)) if on_path else None


def _program(*names: str) -> Callable[[], bool]:
    # /usr/sbin is not on every user's PATH, and what lies there can be run all the same.
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    return lambda: any(shutil.which(name, path=search) for name in names)


def _ordinary_user_namespace() -> bool:
    done = subprocess.run(
        ["unshare", "--map-user=1000", "--map-group=1000", "true"], stderr=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def _package_index() -> bool:
    # The smallest thing that can be asked for; it answers from the cache when it has been asked before.
    command = [str(CHECKOUT / "tools" / "uv"), "pip", "compile", "--quiet", "-"]
    return subprocess.run(command, input=b"idna\n", capture_output=True, check=False).returncode == 0


def _hashing_in_c() -> bool:
    try:
        importlib.import_module("sandtrail.store._hashing")
    except ImportError:
        return False
    return True


@dataclass(frozen=True)
class Part:
    """How to see whether a part is here, and what to do when it is not."""

    present: Callable[[], bool]
    get: str


def _apt(package: str, *programs: str) -> Part:
    return Part(_program(*(programs or (package,))), f"apt-get install {package}")


PARTS: dict[str, Part] = {
    "root": Part(lambda: os.geteuid() == 0, "run as root: network namespaces and gVisor sandboxes need it"),
    "runsc": Part(lambda: newest_runsc() is not None, "make runsc, or apt-get install runsc"),
    "runsc-distribution": Part(lambda: runsc("distribution") is not None, "apt-get install runsc"),
    "runsc-2025-02": Part(lambda: runsc("2025-02") is not None, "make runsc-all"),
    "runsc-2026-09": Part(lambda: runsc("2026-09") is not None, "make runsc"),
    "foreign-go": Part(lambda: os.access(foreign_go("logcheck"), os.X_OK), "make foreign"),
    "userns": Part(_ordinary_user_namespace, "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1"),
    "index": Part(_package_index, "reach a Python package index (pip's and uv's own settings apply)"),
    "nft": _apt("nftables", "nft"),
    "ip": _apt("iproute2", "ip"),
    "conntrack": _apt("conntrack"),
    "chromium": _apt("chromium", "chromium", "chromium-browser"),
    "cc": _apt("gcc libc6-dev", "cc"),
    "hashing-in-c": Part(
        _hashing_in_c,
        "apt-get install gcc libc6-dev python3-dev, then tools/environment",
    ),
    "go": Part(_program("go"), "install Go 1.21 or later (see README.md, section Settings)"),
    "git": _apt("git"),
    "make": _apt("make"),
    "strace": _apt("strace"),
    "loop": Part(
        lambda: os.access("/dev/loop-control", os.W_OK) and _program("mkfs.ext4")(),
        "apt-get install e2fsprogs, and have loop devices: modprobe loop",
    ),
    "curl": _apt("curl"),
    # What sandboxes run when a test needs a language: the system's own, since nobody's pyenv is visible in there.
    "python3": Part(lambda: os.access("/usr/bin/python3", os.X_OK), "apt-get install python3"),
    "ssh-agent": _apt("openssh-client", "ssh-agent"),
    "dig": _apt("dnsutils", "dig"),
    "postgresql": Part(lambda: any(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")), "apt-get install postgresql"),
    "softhsm": _apt("softhsm2", "softhsm2-util"),
    "openssl": _apt("openssl"),
    "busybox": _apt("busybox-static", "busybox"),
}


@cache
def missing(part: str) -> str | None:
    """None when the part is here, else a sentence that says how to get it. KeyError for a part nobody described."""
    known = PARTS[part]
    return None if known.present() else f"{part} is missing: {known.get}"
