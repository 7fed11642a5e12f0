"""What only recording needs: root, network namespaces and a packet filter, gVisor's runtime, room for its messages."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sandtrail.collector.network import namespaces
from sandtrail.collector.runsc import trace
from sandtrail.collector.runsc.binary import find, identify
from sandtrail.collector.session.privilege import require_root
from sandtrail.collector.session.sendbuffer import SETTING, WANTED
from sandtrail.doctor import Result, State

__all__ = ["network", "root", "runtime", "send_buffer"]

# <linux/capability.h>: what making sandboxes and their links takes; a container's root may lack them.
_CAPABILITIES = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN"}

_RULES = """table inet doctor {
    chain out {
        type filter hook output priority 0; policy drop;
    }
}
"""


def root() -> Result:
    """Whether we are root, with all that this is good for."""
    require_root("record")
    status = Path("/proc/self/status").read_text()
    held = int(re.findall(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)[0], 16)
    missing = [name for bit, name in _CAPABILITIES.items() if not held >> bit & 1]
    if missing:
        remedy = "run it on the machine itself, or give the container these capabilities"
        return Result(State.BAD, f"root without {' and '.join(missing)}", remedy)
    return Result(State.GOOD, "root, with the capabilities that it takes")


def network() -> Result:
    """Whether a network namespace can be made, and a packet filter in it."""
    versions = [namespaces.tool("ip", "-V").strip(), namespaces.tool("nft", "--version").strip()]
    if os.geteuid() == 0:
        name = f"st-doctor-{os.getpid()}"
        try:
            namespaces.create(name)
            namespaces.inside(name, lambda: namespaces.tool("nft", "-f", "-", stdin=_RULES))
        finally:
            namespaces.delete(name)
    return Result(State.GOOD, ", ".join(versions))


def runtime() -> Result:
    """Whether there is a runsc whose sandboxes start here and can be recorded from, and what it does not report."""
    path = find()
    if os.geteuid() != 0:
        return Result(State.WARNING, f"{path}: only root can see whether a sandbox starts", "run this with sudo")
    runsc = identify(path)
    blind = trace.session(runsc.metadata, "/").blind
    found = f"{path}: {runsc.version}, {len(runsc.metadata)} trace points, {runsc.reasons[-1]}"
    if blind:
        remedy = f"it records; a newer runsc ({len(blind)} things more) is built by: make runsc"
        return Result(State.WARNING, f"{found}; does not report {blind[0]}, …", remedy)
    return Result(State.GOOD, found)


def send_buffer() -> Result:
    """Whether long messages of a sandbox (an exec with many arguments) get through to us."""
    if not SETTING.exists():
        remedy = "run it where /proc/sys/net is the machine's: long messages get lost here (the loss is recorded)"
        return Result(State.WARNING, f"{SETTING} is hidden", remedy)
    size = int(SETTING.read_text())
    if size >= WANTED:
        return Result(State.GOOD, f"{size} bytes")
    if os.access(SETTING, os.W_OK) and not os.statvfs(SETTING).f_flag & os.ST_RDONLY:
        return Result(State.GOOD, f"{size} bytes, raised to {WANTED} while a sandbox starts")
    remedy = f"long messages get lost (the loss is recorded): sysctl -w net.core.wmem_default={WANTED}"
    return Result(State.WARNING, f"{size} bytes, and it can't be raised from here", remedy)
