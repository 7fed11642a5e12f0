"""What `sandtrail record` can be told."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from sandtrail.collector.network.rules import EGRESS_MODES, EgressMode
from sandtrail.collector.runsc.points import Profile
from sandtrail.collector.session.boundary import Boundary
from sandtrail.errors import UsageError

__all__ = [
    "Mount",
    "RecordOptions",
    "keep_outside",
    "parse_egress",
    "parse_environment",
    "parse_memory",
    "parse_mount",
    "parse_user",
]

_SIZE = re.compile(r"(\d+)([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# A sentry alone needs about this much; below it no command could start.
MIN_MEMORY = 64 << 20


@dataclass(frozen=True)
class Mount:
    """A folder or file of the host that the sandbox sees at `target`."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True)
class RecordOptions:
    """One recording.

    `rootfs` replaces the host's system folders. `env` is added to the sandbox's environment. `boundary` is what the
    gateway lets out, and the sandbox's secrets; `egress` says what reaches the gateway (docs/egress.md). `memory` is in
    bytes. `platform` and `network` force what is otherwise tried. `record_env` also records environment variables where
    the runtime leaves the choice. `record_stdio` has the command's stdin, stdout and stderr go by way of us, recorded,
    in place of our own. `claims` takes the telemetry that programs in the sandbox send. `quiet` leaves out
    the line on stderr.
    """

    home: Path
    command: tuple[str, ...]
    name: str = ""
    rootfs: Path | None = None
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    boundary: Boundary = field(default_factory=Boundary)
    egress: EgressMode = "proxy"
    memory: int | None = None
    runsc: str = ""
    platform: str = ""
    network: str = ""
    profile: Profile = "default"
    record_env: bool = False
    record_stdio: bool = False
    claims: bool = True
    quiet: bool = False


def parse_egress(text: str) -> EgressMode:
    """`proxy`, `transparent` or `transparent-all`. Raises UsageError."""
    for mode in EGRESS_MODES:
        if text == mode:
            return cast(EgressMode, mode)
    raise UsageError(f"--egress {text}: write {', '.join(EGRESS_MODES[:-1])} or {EGRESS_MODES[-1]}")


def parse_mount(text: str) -> Mount:
    """`SRC:DST[:ro|rw]`; without a mode it is read-only. Raises UsageError."""
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not source or not target.startswith("/") or mode not in ("", "ro", "rw"):
        raise UsageError(f"--mount {text}: write SRC:DST, SRC:DST:ro or SRC:DST:rw, DST from the sandbox's root")
    path = Path(source).expanduser().absolute()
    if not path.exists():
        raise UsageError(f"--mount {text}: there is no {path}")
    return Mount(path, os.path.normpath(target), mode == "rw")


def keep_outside(mounts: Iterable[Mount], files: Iterable[Path], home: Path) -> None:
    """Raise UsageError where the sandbox could write one of `files`, since what it writes there is root's, as if we
    had; or where it could see anything of the store under `home`, whose keys sign the record."""
    files, home = [file.resolve() for file in files], home.resolve()
    for mount in mounts:
        source = mount.source.resolve()
        for file in files if mount.writable else ():
            if file.is_relative_to(source):
                raise UsageError(
                    f"--mount {mount.source}:{mount.target}:rw: the sandbox could rewrite {file}, which says what it "
                    "may do; move that to /etc/sandtrail, or mount the folder read-only"
                )
        if home.is_relative_to(source) or source.is_relative_to(home):
            raise UsageError(
                f"--mount {mount.source}:{mount.target}: the sandbox could see the store {home}, and the keys that "
                "sign its record; mount another folder, or keep the store elsewhere: --home"
            )


def parse_environment(items: list[str]) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME` for this process's own value. Raises UsageError."""
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name or (not equals and name not in os.environ):
            raise UsageError(f"--env {item}: write NAME=VALUE, or NAME for a variable that is set here")
        found[name] = value if equals else os.environ[name]
    return found


def parse_memory(text: str) -> int:
    """A size in bytes: `512M`, `2GiB`, `1073741824`. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _UNITS[match[2].lower()] if match else 0
    if size < MIN_MEMORY:
        raise UsageError(f"--memory {text}: write a size of at least 64M, for example 512M or 2G")
    return size


def parse_user(text: str) -> tuple[int, int]:
    """`UID` or `UID:GID`; empty is root inside of the sandbox. Raises UsageError."""
    uid, _, gid = text.partition(":")
    try:
        return int(uid or 0), int(gid or uid or 0)
    except ValueError:
        raise UsageError(f"--user {text}: write numbers, UID or UID:GID") from None
