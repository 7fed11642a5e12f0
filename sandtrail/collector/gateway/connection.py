"""One connection from a sandbox, in mitmproxy's hands."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import structlog
from mitmproxy.master import Master
from mitmproxy.proxy import commands, events, layers, mode_servers, mode_specs

from sandtrail.collector.gateway.egress import leaving
from sandtrail.collector.gateway.exchange import Exchange
from sandtrail.collector.gateway.http1 import INTERIM
from sandtrail.collector.gateway.refusal import Refusal
from sandtrail.collector.gateway.session import Session, UnrecordedError
from sandtrail.collector.gateway.turned import SERVER_FIRST, Turned
from sandtrail.collector.gateway.vault import Access

__all__ = ["Connection"]

_log = structlog.get_logger(__name__)
_SLICE = 8 * 1024
_LONG_S = 0.005
_AT_ONCE = 8
"""Hooks: those of two requests."""
_MODE = mode_specs.ProxyMode.parse("regular")
# What the engine answers or drops without making an exchange of it.
_MALFORMED = re.compile(r"Bad HTTP request line|Invalid header|HTTP/2 protocol error|before completing request headers")


class Connection(mode_servers.ProxyConnectionHandler):
    """One connection from a sandbox. Whose it is follows from the socket that it was accepted on."""

    def __init__(
        self,
        master: Master,
        session: Session,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        turned: Turned | None = None,
    ) -> None:
        super().__init__(master, reader, writer, master.options, _MODE)  # type: ignore[no-untyped-call]
        self.turned = turned
        """Where its client meant it to go, if that is not the gateway."""
        self.layer = _first_layer(self.layer.context, turned)
        self.session = session
        self.flow = self.client.id.replace("-", "")[:16]
        self.connected = False
        """Whether a connect frame says what this connection is for."""
        self.mapped: set[tuple[str, int]] = set()
        """Upstreams of the policy that a request on this connection was sent to."""
        self.vetted: set[tuple[str, int]] = set()
        """Where requests on this connection may go by the names that they gave; for one that was turned to us."""
        self.exchanges: dict[str, Exchange] = {}
        """Those under way, by mitmproxy's id of the flow."""
        self.tunnelled = False
        """Whether it carries a WebSocket, or bytes that are no HTTP."""
        self.upgraded: Access | None = None
        """What the request might do with secrets that turned it into a tunnel of bytes."""
        self.refuses = False
        """Whether a request is under way whose body is only waited for, to be answered with a refusal."""
        self._unwanted = 0
        self._answered: deque[events.HookCompleted] = deque()
        self._faulted = False
        self.up = self.down = 0
        self._count_written(writer)

    def _count_written(self, writer: asyncio.StreamWriter) -> None:
        write = writer.write

        def counted(data: bytes) -> None:
            self.down += len(data)
            write(data)

        writer.write = counted  # type: ignore[assignment, method-assign]

    # -- what the engine does ------------------------------------------------------------------------------------------

    async def server_event(self, event: events.Event) -> None:
        """Counts what the client sends, and does not wait for the end of an endless body that is refused."""
        if not isinstance(event, events.DataReceived):
            await self._take(event)
            return
        if event.connection is self.client:
            self.up += len(event.data)
            self._unwanted = self._unwanted + len(event.data) if self.refuses else 0
            if self._unwanted > self.session.policy.limits.request_body:
                self.abort("the body of a refused request goes on and on")
        try:
            await self._take_in_turns(event)
        except asyncio.CancelledError:
            # The engine expects that where it waits for more, and only there is the connection closed as it should be.
            if task := asyncio.current_task():
                task.cancel()

    async def _take_in_turns(self, event: events.DataReceived) -> None:
        """Everybody waits while one piece is worked on. Frames of HTTP/2 cost many times their bytes, so they are taken
        in smaller pieces; and who took long goes on, with all of its sandbox, when others have had their turn."""
        size = _SLICE if self.client.alpn == b"h2" else len(event.data)
        for start in range(0, len(event.data), size):
            async with self.session.turn:
                began = time.perf_counter()
                await self._take(events.DataReceived(event.connection, event.data[start : start + size]))
                if time.perf_counter() - began > _LONG_S:
                    await asyncio.sleep(0)

    async def _take(self, event: events.Event) -> None:
        await super().server_event(event)
        at_once = 0
        while self._answered:
            await super().server_event(self._answered.popleft())
            if not (at_once := at_once + 1) % _AT_ONCE:
                await asyncio.sleep(0)  # many small requests may lie behind one another

    async def hook_task(self, hook: commands.StartHook) -> None:
        """Calls the addons. What waited for nothing is answered in the same turn of the event loop: mitmproxy itself
        takes another turn for each of the four hooks of a request."""
        await self.handle_hook(hook)
        if hook.blocking:
            answer = events.HookCompleted(hook)
            if self._server_event_lock.locked():
                self._answered.append(answer)
            else:
                await self.server_event(answer)

    async def drain_writers(self) -> None:
        """Waits where something waits to be written; mitmproxy asks each side after every read."""
        writers = [found for io in self.transports.values() if isinstance(found := io.writer, asyncio.StreamWriter)]
        if any(writer.transport.get_write_buffer_size() for writer in writers):
            await super().drain_writers()  # type: ignore[no-untyped-call]

    async def open_connection(self, command: commands.OpenConnection) -> None:
        """Connects on the session's behalf."""
        mapped = command.connection.address in self.mapped
        with leaving(self.session.resolver, mapped=mapped):
            await super().open_connection(command)

    def log(self, message: str, level: int = 0, exc_info: Any = None) -> None:
        """The engine's messages quote traffic, so none is logged. That something was not understood is recorded, that
        the engine crashed on one connection is told, and where."""
        if exc_info is None:
            if malformed := _MALFORMED.search(message):
                self.record_error(malformed[0], "malformed")
            elif INTERIM in message:
                self.session.counts["interim"] += 1
            return
        error = exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1]
        if isinstance(error, UnrecordedError):
            self.abort("the traffic could not be recorded")
            return
        place = _place(error)
        _log.error(
            "connection failed in the engine", session=self.session.name, error=type(error).__name__, place=place
        )
        self.abort(f"the engine failed on this connection: {type(error).__name__} in {place}")

    def abort(self, reason: str) -> None:
        """Close the connection at once."""
        self.record_error(reason, "aborted")
        self.hang_up(reason)

    def cut_off(self, refusal: Refusal) -> None:
        """End what can't be answered any more."""
        self.record_error(refusal.message, refusal.reason, **refusal.facts)
        self.hang_up(refusal.message)

    @property
    def busy(self) -> bool:
        """Whether anything is under way that is worth waiting for."""
        return bool(self.exchanges) or self.tunnelled

    def hang_up(self, reason: str) -> None:
        """Close the connection."""
        io = self.transports.get(self.client)
        if io is not None and io.handler is not None:
            io.handler.cancel(reason)

    # -- frames --------------------------------------------------------------------------------------------------------

    def record_connect(self, host: str, port: int, **more: Any) -> None:
        """Record what the connection is for. Raises UnrecordedError."""
        self.connected = True
        frame = {
            "t": "connect",
            "flow": self.flow,
            **self._whose(),
            "host": self.session.redactor.name(host),
            "port": port,
        }
        self.session.write({**frame, **more, "at_ns": time.time_ns()}, urgent=True)

    def _whose(self) -> dict[str, Any]:
        return {"client": list((self.client.peername or ("", 0))[:2])}

    def record_tls(self, sni: str | None, *, established: bool, message: str = "", **more: Any) -> None:
        """Record how the client's TLS handshake with us went."""
        frame = {
            "t": "tls",
            "flow": self.flow,
            "sni": self.session.redactor.name(sni or ""),
            "established": established,
        }
        self._try({**frame, "message": message, **more})

    def record_error(self, message: str, reason: str, **facts: Any) -> None:
        """Record what happened to the connection as such."""
        self._faulted = True
        text = self.session.redactor.message(message)
        # Of a connection that said nothing of where it goes there is no other frame that says whose it was.
        whose = {} if self.connected else self._whose()
        said = {"message": text, "reason": reason, "by": "gateway"}
        self._try({"t": "error", "flow": self.flow, **whose, **said, **facts})

    def end(self) -> None:
        """Record that the connection is over, and what was not finished on it."""
        for exchange in list(self.exchanges.values()):
            try:
                exchange.fail("the connection closed first", by="engine")
            except UnrecordedError:
                break
        self.exchanges.clear()
        if self.up and not self.connected and not self._faulted:
            self.record_error("what came was no request that could be sent anywhere", "malformed")
        self.session.counts["up_bytes"] += self.up
        self.session.counts["down_bytes"] += self.down
        whose = {} if self.connected else self._whose()
        self._try({"t": "close", "flow": self.flow, **whose, "up_bytes": self.up, "down_bytes": self.down})

    def _try(self, frame: dict[str, Any]) -> None:
        try:
            self.session.write({**frame, "at_ns": time.time_ns()})
        except UnrecordedError:
            return  # counted by the session; nothing that could still pass depends on this frame


def _first_layer(context: Any, turned: Turned | None) -> Any:
    if turned is None:
        return layers.modes.HttpProxy(context)
    context.server.address = turned[:2]
    return layers.TCPLayer(context) if turned.port in SERVER_FIRST else layers.modes.TransparentProxy(context)


def _place(error: BaseException | None) -> str:
    trace = error.__traceback__ if error is not None else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else "?"
