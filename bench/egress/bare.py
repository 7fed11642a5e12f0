"""mitmproxy with nothing of ours: its own addons, streams passed on as they come, one name sent to the bench's model.

Run as a process: `python -m bench.egress.bare FOLDER PORT`, where FOLDER gets its certificate authority and PORT is the
model's. It prints the port that it listens on.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

from mitmproxy import http, options
from mitmproxy.addons import default_addons
from mitmproxy.master import Master


class _Pass:
    """What anybody has to add who wants streams to pass, and the bench's name to lead to its model."""

    def __init__(self, port: int) -> None:
        self._port = port

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """To the model, in clear, as Sandtrail's gateway is told to do."""
        flow.request.scheme, flow.request.host, flow.request.port = "http", "127.0.0.1", self._port

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Without waiting for its end."""
        if flow.response is not None:
            flow.response.stream = True


async def _main(folder: str, port: int) -> None:
    master = cast(Any, Master(options.Options(confdir=folder, listen_host="127.0.0.1", listen_port=0)))
    addons: list[Any] = default_addons()  # type: ignore[no-untyped-call]
    master.addons.add(*addons, _Pass(port))
    master.options.update(connection_strategy="lazy")
    running = asyncio.create_task(master.run())
    proxy = next(addon for addon in addons if type(addon).__name__ == "Proxyserver")
    while not (addresses := proxy.listen_addrs()):
        await asyncio.sleep(0.05)
    print(addresses[0][1], flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
