"""Takes in a sandbox's connections, at a pace: all sandboxes share one process, and none may have all of its time.

Each sandbox may open a burst at once, and then so many a second. What it opens beyond waits in its own listener's
backlog, where the kernel turns away what does not fit; the sandbox's other connections, and everybody else's, go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = ["BURST", "RATE", "Admission"]

RATE: Final = 200.0
"""Connections a second."""
BURST: Final = 512.0
_RETRY_S: Final = 0.2

Serve = Callable[[socket.socket, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Admission:
    """Serves one listening socket until `close`; `closing` is called then."""

    def __init__(
        self,
        listener: socket.socket,
        serve: Serve,
        closing: Callable[[], None] | None = None,
        *,
        rate: float = RATE,
        burst: float = BURST,
    ) -> None:
        listener.setblocking(False)
        self._closing = closing
        self._rate = rate
        self._burst = burst
        self._listener = listener
        self._serve = serve
        self._budget = burst
        self._counted = asyncio.get_running_loop().time()
        self._connections: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._turn()
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:
                # No file descriptors left, or the client has gone already.
                await asyncio.sleep(_RETRY_S)
                continue
            task = asyncio.create_task(self._one(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
            await asyncio.sleep(0)  # one a turn of the loop: it is never ours alone

    async def _turn(self) -> None:
        """Wait until the next connection may be taken."""
        now = asyncio.get_running_loop().time()
        self._budget = min(self._burst, self._budget + (now - self._counted) * self._rate)
        self._counted = now
        if self._budget < 1:
            await asyncio.sleep((1 - self._budget) / self._rate)
        self._budget -= 1

    async def _one(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError:
            connection.close()
            return
        await self._serve(connection, reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def close(self) -> None:
        """Take no more; what was taken goes on."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._listener.close()
        if self._closing is not None:
            self._closing()
