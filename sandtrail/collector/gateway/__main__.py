"""`python -m sandtrail.collector.gateway --home H --control-fd N`: the gateway as a process of the keeper's."""

from __future__ import annotations

import gc
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from sandtrail.collector.gateway.egress import EgressLoop
from sandtrail.collector.handed import run


def _only_the_addons_we_use() -> None:
    """Keep `mitmproxy.addons` from importing all of mitmproxy's addons, with a web framework and an LDAP client.

    Whoever begins a recording waits for this process; it is twice as fast without them. Modules of the package are
    found as ever.
    """
    spec = find_spec("mitmproxy")
    if spec is not None and spec.submodule_search_locations:
        package = ModuleType("mitmproxy.addons")
        package.__path__ = [str(Path(folder) / "addons") for folder in spec.submodule_search_locations]
        sys.modules.setdefault(package.__name__, package)


async def _serve(home: Path, control: socket.socket) -> None:
    # Imports mitmproxy.
    from sandtrail.collector.gateway.service import Gateway

    gateway = Gateway(home, control)
    # What is there now stays to the end: the collector of cycles need not look at it again and again.
    gc.freeze()
    await gateway.run()


def main() -> int:
    """Serve until the keeper says stop or hangs up."""
    _only_the_addons_we_use()
    return run("gateway", _serve, EgressLoop)


if __name__ == "__main__":
    raise SystemExit(main())
