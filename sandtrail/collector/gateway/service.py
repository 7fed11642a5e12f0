"""The gateway's side of the keeper's socket pair: docs/architecture.md, "The keeper's control socket"."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog

from sandtrail.collector.gateway.admission import Admission
from sandtrail.collector.gateway.ca import ensure_ca
from sandtrail.collector.gateway.engine import Engine
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.names import Names
from sandtrail.collector.gateway.session import Session
from sandtrail.collector.gateway.turned import DNS_PORT, meant_for
from sandtrail.collector.handed import Handed
from sandtrail.collector.secrets import read_handed
from sandtrail.errors import UsageError
from sandtrail.store.spool import SpoolWriter

__all__ = ["Gateway"]

DRAIN_S = 3.0
"""How long connections may go on after their session has ended. The sandbox is gone by then."""
_BACKLOG = 1024

_log = structlog.get_logger(__name__)


class Gateway(Handed):
    """Serves the keeper on one end of a socket pair, and every sandbox whose listener it is handed."""

    def __init__(self, home: Path, control: socket.socket) -> None:
        super().__init__(control)
        ensure_ca(home)
        self._fingerprints = Fingerprinter.load(home)
        self._spool = SpoolWriter(home, "gateway")
        self._engine = Engine(home)
        self._listeners: dict[str, tuple[Session, Admission]] = {}

    async def run(self) -> None:
        """Until the keeper says stop or hangs up."""
        engine = asyncio.create_task(self._engine.run())
        engine.add_done_callback(lambda _: self.hang_up())
        if await self.serve():
            self.answer({"ok": True, "op": "stop"})
        self._engine.stop()
        await engine
        self._spool.close()

    def sessions(self) -> Iterable[str]:
        """The sessions that have listeners."""
        return self._listeners

    async def listen(self, name: str, descriptor: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Serve a sandbox's listening socket; in a transparent mode the next one is for names that it looks up."""
        secrets = read_handed(fds[-1]) if descriptor.get("secrets") else []
        sockets = [socket.socket(fileno=fds.pop(0))]
        try:
            session = Session(name, descriptor, self._spool, self._fingerprints, secrets)
            if session.transparent:
                if not fds:
                    raise UsageError("a transparent mode comes with a socket for names")
                sockets.append(socket.socket(fileno=fds.pop(0)))
            server = await self._serve(session, *sockets)
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        self._listeners[name] = session, server
        _log.info("listening", session=name, stream=f"{session.stream.id:016x}")
        return {"ok": True, "session": name, "stream": f"{session.stream.id:016x}"}

    async def _serve(self, session: Session, listener: socket.socket, names: socket.socket | None = None) -> Admission:
        listener.listen(_BACKLOG)
        resolver = None
        if names is not None:
            resolver = Names(session, listener.getsockname()[0])
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: resolver, sock=names)

        async def serve(connection: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            turned = meant_for(connection) if session.transparent else None
            if resolver is not None and turned is not None and turned.port == DNS_PORT:
                await resolver.serve(reader, writer)
            else:
                await self._engine.serve(session, reader, writer, turned)

        return Admission(listener, serve, resolver.close if resolver is not None else None)

    async def unlisten(self, name: str, reason: str) -> dict[str, Any]:
        """Accept no more, let what is under way end, end the stream."""
        session, server = self._listeners.pop(name)
        await server.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_S
        while session.connections and loop.time() < deadline:
            for link in self._engine.connections(session):
                if not link.busy:
                    link.hang_up("session ended")
            await asyncio.sleep(0.01)
        for link in self._engine.connections(session):
            link.abort("open when the session ended")
        while session.connections and loop.time() < deadline + DRAIN_S:
            await asyncio.sleep(0.01)
        session.close(reason)
        _log.info("closed", session=name, reason=reason, **session.counts)
        return {"ok": True, "session": name, "stream": f"{session.stream.id:016x}", "frames": session.stream.seq}
