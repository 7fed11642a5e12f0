"""Named network namespaces, and running something inside one without moving the process.

setns(2) moves one thread, and a process that this thread starts begins where the thread is: so a short-lived thread is
all that is needed, and the rest of the process never leaves its own namespace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from sandtrail.errors import EnvironmentRefusedError, MissingPartError

__all__ = ["NETNS", "create", "delete", "inside", "tool"]

NETNS = Path("/run/netns")
_PACKAGES = {"ip": "iproute2", "nft": "nftables"}
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def tool(*command: str, stdin: str | None = None) -> str:
    """Run `ip` or `nft` and return what it printed.

    Raises MissingPartError when the program is not here, EnvironmentRefusedError with its own words when it fails.
    """
    path = shutil.which(command[0], path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    if path is None:
        package = _PACKAGES.get(command[0], command[0])
        raise MissingPartError(f"{command[0]} is not installed: apt-get install {package}")
    done = subprocess.run([path, *command[1:]], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentRefusedError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def create(name: str) -> None:
    """Make a named network namespace with its loopback up. Raises EnvironmentRefusedError when the name is taken."""
    tool("ip", "netns", "add", name)
    tool("ip", "-n", name, "link", "set", "lo", "up")


def delete(name: str) -> None:
    """Remove a named network namespace, and with it its links, rules and flows; one that is gone already is fine."""
    if (NETNS / name).exists():
        with contextlib.suppress(EnvironmentRefusedError):
            tool("ip", "netns", "del", name)


def inside[T](name: str, act: Callable[[], T]) -> T:
    """What `act` returns when it runs inside the named namespace; what it raises is raised here."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            fd = os.open(NETNS / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.setns(fd, os.CLONE_NEWNET)
            finally:
                os.close(fd)
            result.append(act())
        except BaseException as error:  # noqa: BLE001 - carried over to the calling thread, whatever it is
            failure.append(error)

    thread = threading.Thread(target=run, name=f"in-{name}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
