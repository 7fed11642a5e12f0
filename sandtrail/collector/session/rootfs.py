"""The sandbox's default root: the host's programs, read-only, and of /etc only what programs need to run.

Nobody's home, no keys, no /etc/shadow, no configuration of package tools (their files hold registry passwords). The
folder itself is the lower layer of an overlay in the sandbox's memory, so it stays as it was written here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from sandtrail.collector.network.wire import WIRE_ADDRESS
from sandtrail.errors import EnvironmentRefusedError, UsageError

__all__ = ["HOME", "WORKDIR", "bind", "build", "hosts", "mount_point", "overlay", "put", "resolv_conf"]

HOME: Final = "/home/agent"
WORKDIR: Final = "/work"
_SYSTEM: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_EMPTY: Final = ("proc", "sys", "dev", "tmp", "run", "root", "var/tmp", "var/cache", "var/lib", HOME[1:], WORKDIR[1:])
_ETC: Final = (
    *("nsswitch.conf", "services", "protocols", "mime.types", "localtime", "timezone", "os-release", "debian_version"),
    *("bash.bashrc", "profile", "inputrc", "host.conf", "gai.conf", "shells", "locale.alias", "magic", "lsb-release"),
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "terminfo", "fonts", "perl", "python3", "pki/tls"),
    *("ssl/openssl.cnf", "ssl/certs", "ca-certificates.conf"),
)
_ACCOUNTS: Final = ("root", "daemon", "bin", "sys", "games", "man", "mail", "www-data", "nobody", "nogroup")


def resolv_conf() -> str:
    """Names are asked of the wire's end of the link, where the question is recorded and refused."""
    return f"nameserver {WIRE_ADDRESS}\noptions timeout:1 attempts:1\n"


def hosts(name: str) -> str:
    """The sandbox's /etc/hosts."""
    return f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n"


def build(root: Path, name: str, owner: tuple[int, int]) -> list[dict[str, Any]]:
    """Make the root folder at `root` for a sandbox called `name`, whose home and working folder belong to `owner` (user
    and group id); returns the OCI mounts that complete it."""
    root.mkdir(parents=True)
    for folder in _EMPTY:
        (root / folder).mkdir(parents=True)
    if owner != (0, 0):
        for folder in (HOME, WORKDIR):
            os.chown(root / folder[1:], *owner)
    mounts = []
    for folder in _SYSTEM:
        source = Path("/", folder)
        if source.is_symlink():
            (root / folder).symlink_to(source.readlink())
        elif source.is_dir():
            (root / folder).mkdir()
            mounts.append(bind(source, f"/{folder}"))
    etc = root / "etc"
    etc.mkdir()
    for entry in _ETC:
        _copy(Path("/etc", entry), etc / entry)
    (etc / "passwd").write_text(_accounts("passwd") + f"agent:x:1000:1000::{HOME}:/bin/sh\n")
    (etc / "group").write_text(_accounts("group") + "agent:x:1000:\n")
    (etc / "hostname").write_text(f"{name}\n")
    return mounts


def bind(source: Path, target: str, *, writable: bool = False) -> dict[str, Any]:
    """An OCI bind mount."""
    mode = "rw" if writable else "ro"
    return {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", mode]}


def overlay(lower: Path, folder: Path) -> None:
    """Mount `lower` at `folder`/root with a writable layer in `folder`, so that neither we nor the runtime, which makes
    the places for its mounts, write to a root that is not ours. Whoever removes `folder` unmounts it first.

    Raises UsageError when there is no such folder, EnvironmentRefusedError when the kernel has no overlay filesystem.
    """
    if not lower.is_dir():
        raise UsageError(f"--rootfs {lower}: there is no such folder")
    for name in ("root", "upper", "work"):
        (folder / name).mkdir()
    escaped = str(lower.absolute()).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
    options = f"lowerdir={escaped},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    command = ["mount", "-t", "overlay", "sandtrail", "-o", options, str(folder / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentRefusedError(f"--rootfs needs the kernel's overlay filesystem: {done.stderr.strip()}")


def _linked(root: Path, target: str) -> bool:
    """Whether a path in `root` goes through a link, which we, who are outside, would follow out of it."""
    return any((root / part).is_symlink() for part in Path(target.lstrip("/")).parents)


def put(root: Path, target: str, text: str) -> None:
    """Write a file into `root`, over whatever is there; one behind a link stays as it is."""
    path = root / target.lstrip("/")
    if not _linked(root, target):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)


def mount_point(root: Path, target: str, *, is_file: bool) -> None:
    """Make the place in `root` on which something is mounted; behind a link the runtime makes it."""
    path = root / target.lstrip("/")
    if _linked(root, target) or path.exists() or path.is_symlink():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_file:
        path.touch()
    else:
        path.mkdir()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # A file that this host has not, or that changes while it is copied, is no reason not to record.
    with contextlib.suppress(OSError, shutil.Error):
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True, ignore_dangling_symlinks=True)
        else:
            shutil.copy2(source, target, follow_symlinks=False)


def _accounts(file: str) -> str:
    """The host's system accounts only: names of people are nobody's business in there."""
    try:
        lines = Path("/etc", file).read_text(errors="replace").splitlines()
    except OSError:
        lines = ["root:x:0:0:root:/root:/bin/sh"] if file == "passwd" else ["root:x:0:"]
    kept = [line for line in lines if line.partition(":")[0] in _ACCOUNTS]
    return "".join(f"{line}\n" for line in kept)
