"""The receiver's side of the keeper's socket pair: docs/architecture.md, "The keeper's control socket"."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from sandtrail.collector.claims.allowance import Turns
from sandtrail.collector.claims.limits import WORKING
from sandtrail.collector.claims.link import STEP, Link, drain
from sandtrail.collector.claims.session import Session
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.handed import Handed
from sandtrail.store.spool import SpoolWriter

__all__ = ["Claims"]

DRAIN_S = 3.0
"""How long exports may go on after their session has ended. The sandbox is gone by then."""
_BACKLOG = 128

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Listening:
    session: Session
    servers: list[asyncio.Server] = field(default_factory=list)
    links: set[Link] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        link = Link(self.session, reader, writer)
        self.links.add(link)
        try:
            await link.serve()
        finally:
            self.links.discard(link)


class Claims(Handed):
    """Serves the keeper on one end of a socket pair, and every sandbox whose listeners it is handed."""

    def __init__(self, home: Path, control: socket.socket) -> None:
        super().__init__(control)
        self._fingerprints = Fingerprinter.load(home)
        self._spool = SpoolWriter(home, "claims")
        self._listening: dict[str, _Listening] = {}
        self._turns = Turns(WORKING)

    async def run(self) -> None:
        """Until the keeper says stop or hangs up."""
        if await self.serve():
            self.answer({"ok": True, "op": "stop"})
        self._spool.close()

    def sessions(self) -> Iterable[str]:
        """The sessions that have listeners."""
        return self._listening

    async def listen(self, name: str, descriptor: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Serve a sandbox's listening sockets, all alike: the protocol shows when somebody speaks."""
        sockets = [socket.socket(fileno=fd) for fd in fds]
        fds.clear()
        try:
            listening = _Listening(Session(name, descriptor, self._spool, self._fingerprints, self._turns))
            for sock in sockets:
                server = await asyncio.start_server(listening.serve, sock=sock, backlog=_BACKLOG, limit=STEP)
                listening.servers.append(server)
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        self._listening[name] = listening
        stream = f"{listening.session.stream.id:016x}"
        _log.info("listening", session=name, stream=stream)
        return {"ok": True, "session": name, "stream": stream}

    async def unlisten(self, name: str, reason: str) -> dict[str, Any]:
        """Accept no more, let exports that are under way end, end the stream."""
        listening = self._listening.pop(name)
        session = listening.session
        for server in listening.servers:
            server.close()
        await drain(listening.links, DRAIN_S)
        session.close(reason)
        _log.info("closed", session=name, reason=reason, **session.counts)
        return {"ok": True, "session": name, "stream": f"{session.stream.id:016x}", "frames": session.stream.seq}
