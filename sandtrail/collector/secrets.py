"""Secrets that a sandbox may use and never holds: how they get from the operator to the gateway.

The sandbox gets a placeholder, the gateway the value: in a sealed memory file that is passed on as a descriptor. The
keeper holds it for the gateway's successor and never reads it; no value is on a command line, in an environment of
ours, in a message or on disk.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from sandtrail.errors import UsageError

__all__ = ["MARKER", "Secret", "make_secret", "read_handed", "write_handed"]

MARKER = "sandtrail-secret-"
"""Stands in every placeholder, and nowhere else."""

_LEAST, _MOST = 12, 4096
_MAX_SECRETS = 64
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
# Clients look at a key's first characters to tell what it is. They are the vendor's, and tell nothing of the key.
_VENDORS = re.compile(
    r"sk-ant-(?:api[0-9]{2}-|oat[0-9]{2}-)?|sk-(?:proj-|svcacct-|or-v1-|lf-)?|gh[pousr]_|github_pat_|glpat-|AIza|ya29\."
    r"|xox[abeoprs]-|xapp-|hf_|gsk_|xai-|npm_|pypi-|[sr]k_(?:live|test)_|SG\.|pplx-|r8_|dop_v1_|lsv2_(?:pt|sk)_"
)
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Secret:
    """`hosts` are globs: the only ones that the value may go to."""

    name: str
    hosts: tuple[str, ...]
    placeholder: str
    value: str = field(repr=False)

    @property
    def core(self) -> str:
        """The part of the placeholder that nobody can guess: 32 hexadecimal digits."""
        return self.placeholder[-32:]


def make_secret(name: str, value: str, hosts: Iterable[str]) -> Secret:
    """A secret with a new placeholder. Raises UsageError for what could not be kept apart from other text."""
    hosts = tuple(hosts)
    if not _NAME.fullmatch(name):
        raise UsageError(f"secret {name!r:.100}: its name is that of an environment variable")
    if not hosts or any(not host.strip("*.?") for host in hosts):
        raise UsageError(f"secret {name}: name the hosts that it is for, such as api.example.org or *.example.org")
    if not _LEAST <= len(value) <= _MOST:
        raise UsageError(
            f"secret {name}: its value has {len(value)} characters; {_LEAST} to {_MOST} are possible, because a "
            "shorter one could not be told from other text when it comes back"
        )
    if not _VALUE.fullmatch(value):
        raise UsageError(f"secret {name}: its value has to be one line of printable ASCII")
    vendor = _VENDORS.match(value)
    plain = name.lower().replace("_", "-").strip("-") or "x"
    return Secret(name, hosts, f"{vendor[0] if vendor else ''}{MARKER}{plain}-{secrets.token_hex(16)}", value)


def write_handed(handed: Iterable[Secret]) -> int:
    """A descriptor of a memory file that holds them and cannot be changed any more; the caller closes it.

    Raises UsageError when there are too many, OSError when there is no memory for it.
    """
    items = [[secret.name, list(secret.hosts), secret.placeholder, secret.value] for secret in handed]
    if len(items) > _MAX_SECRETS:
        raise UsageError(f"{len(items)} secrets are more than the {_MAX_SECRETS} that one sandbox can have")
    fd = os.memfd_create("secrets", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(json.dumps(items).encode())
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_handed(fd: int) -> list[Secret]:
    """What `write_handed` wrote, as often as it is asked. Raises UsageError, without a word of what is in it."""
    try:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise OSError
        items = json.loads(os.pread(fd, _MAX_BYTES, 0))
        return [Secret(str(name), tuple(map(str, hosts)), str(held), str(value)) for name, hosts, held, value in items]
    except (OSError, ValueError, TypeError):
        raise UsageError("the secrets that came with the listener cannot be read") from None
