"""The gateway's side of the keeper's socket pair: docs/architecture.md, "The keeper's control socket"."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any

import structlog

from sandtrail.collector.control import receive, send
from sandtrail.collector.gateway.ca import ensure_ca
from sandtrail.collector.gateway.engine import Engine
from sandtrail.collector.gateway.fingerprint import Fingerprinter
from sandtrail.collector.gateway.session import Session
from sandtrail.errors import SandtrailError, UsageError
from sandtrail.store.spool import SpoolWriter

__all__ = ["Gateway"]

DRAIN_S = 3.0
"""How long connections may go on after their session has ended. The sandbox is gone by then."""
_BACKLOG = 1024

_log = structlog.get_logger(__name__)


class Gateway:
    """Serves the keeper on one end of a socket pair, and every sandbox whose listener it is handed."""

    def __init__(self, home: Path, control: socket.socket) -> None:
        ensure_ca(home)
        self._control = control
        self._fingerprints = Fingerprinter.load(home)
        self._spool = SpoolWriter(home, "gateway")
        self._engine = Engine(home)
        self._listeners: dict[str, tuple[Session, asyncio.Server]] = {}
        self._requests: asyncio.Queue[tuple[dict[str, Any] | None, list[int]]] = asyncio.Queue()

    async def run(self) -> None:
        """Until the keeper says stop or hangs up."""
        loop = asyncio.get_running_loop()
        self._control.setblocking(False)
        loop.add_reader(self._control.fileno(), self._hear)
        engine = asyncio.create_task(self._engine.run())
        engine.add_done_callback(lambda _: self._requests.put_nowait((None, [])))
        self._answer({"ok": True, "op": "ready"})
        while True:
            message, fds = await self._requests.get()
            op = message.get("op") if message is not None else "hang-up"
            if op in ("stop", "hang-up"):
                break
            answer = await self._handle(str(op), message or {}, fds)
            for fd in fds:
                os.close(fd)
            self._answer({"op": op, **answer})
        loop.remove_reader(self._control.fileno())
        ended = (self._unlisten(name, "recorder stopped") for name in list(self._listeners))
        for failed in await asyncio.gather(*ended, return_exceptions=True):
            if isinstance(failed, BaseException):
                _log.error("a stream has no end in the record", error=str(failed))
        if op == "stop":
            self._answer({"ok": True, "op": op})
        self._engine.stop()
        await engine
        self._spool.close()

    def _hear(self) -> None:
        try:
            message, fds = receive(self._control)
        except BlockingIOError:
            return
        except OSError:
            message, fds = None, []
        if message is None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
        self._requests.put_nowait((message, fds))

    def _answer(self, answer: dict[str, Any]) -> None:
        # A keeper that is gone hangs up, and that is heard.
        with contextlib.suppress(OSError):
            send(self._control, answer)

    async def _handle(self, op: str, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        try:
            name = message.get("session")
            if not isinstance(name, str) or not name:
                raise UsageError("the request names no session")
            if op == "listen":
                return await self._listen(name, message.get("descriptor"), fds)
            if op == "unlisten":
                return await self._unlisten(name, "session ended")
            raise UsageError(f"the gateway knows no request {op!r}")
        except (SandtrailError, OSError) as error:
            _log.error("request refused", op=op, session=message.get("session"), error=str(error))
            return {"ok": False, "error": str(error)}

    async def _listen(self, name: str, descriptor: object, fds: list[int]) -> dict[str, Any]:
        if not fds or not isinstance(descriptor, dict):
            raise UsageError("listen comes with a descriptor and a listening socket")
        if name in self._listeners:
            raise UsageError(f"{name} has a listener already")
        listener = socket.socket(fileno=fds.pop(0))
        try:
            session = Session(name, descriptor, self._spool, self._fingerprints)
            server = await asyncio.start_server(
                lambda reader, writer: self._engine.serve(session, reader, writer), sock=listener, backlog=_BACKLOG
            )
        except BaseException:
            listener.close()
            raise
        self._listeners[name] = session, server
        _log.info("listening", session=name, stream=f"{session.stream.id:016x}")
        return {"ok": True, "session": name, "stream": f"{session.stream.id:016x}"}

    async def _unlisten(self, name: str, reason: str) -> dict[str, Any]:
        """Accept no more, let what is under way end, end the stream."""
        if name not in self._listeners:
            raise UsageError(f"{name} has no listener")
        session, server = self._listeners.pop(name)
        server.close()
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
