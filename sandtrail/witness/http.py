"""A small HTTP/1.1 server for a witness: asyncio for the sockets, h11 for the protocol, a thread for each answer.

It needs nothing that the store does not need anyway, so that a witness can be a machine with very little on it. Every
resource that a stranger can use is bounded: connections, bytes of a request, and the time for sending one.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import h11
import structlog

from sandtrail.errors import StoreError
from sandtrail.witness.protocol import Reply

__all__ = ["Handler", "serve"]

Handler = Callable[[str, str, bytes], Reply]
"""(method, path without its query, body) -> reply. Called in threads, several at once."""

_log = structlog.get_logger(__name__)
_MAX_HEADERS = 16 << 10
_THREADS = 8
_LINGER = 2.0


def serve(
    handle: Handler,
    host: str,
    port: int,
    *,
    max_body: int,
    ready: Callable[[str], None] = lambda address: None,
    connections: int = 256,
    idle: float = 60.0,
    patience: float = 10.0,
) -> None:
    """Answer requests until SIGTERM or SIGINT; a request that is being answered gets its reply.

    `ready` is told the address (`http://host:port`) once connections are taken. `idle`: seconds that a connection may
    stay silent between requests; `patience`: seconds that sending a request or taking a reply may take. Raises
    StoreError when the address can't be had.
    """
    with asyncio.Runner() as runner:
        server = _Server(handle, max_body, connections, idle, patience)
        try:
            runner.run(server.run(host, port, ready))
        except OSError as error:
            raise StoreError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


class _Server:
    def __init__(self, handle: Handler, max_body: int, connections: int, idle: float, patience: float) -> None:
        self._handle = handle
        self._max_body = max_body
        self._free = connections
        self._idle = idle
        self._patience = patience
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="witness")
        self._busy: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def run(self, host: str, port: int, ready: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        server = await asyncio.start_server(self._connected, host, port, limit=_MAX_HEADERS)
        name, number = server.sockets[0].getsockname()[:2]
        ready(f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}")
        await self._stopping.wait()
        server.close()
        if self._busy:
            await asyncio.wait(self._busy, timeout=self._patience)
        for task in self._busy:
            task.cancel()
        self._pool.shutdown(wait=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if self._free <= 0 or task is None:
            writer.close()
            return
        self._free -= 1
        self._busy.add(task)
        try:
            await self._talk(connection := _Connection(reader, writer, self._max_body))
            await connection.leave()
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # the client has gone, is too slow, or we are leaving; what it asked for is done or not done
        finally:
            self._free += 1
            self._busy.discard(task)
            writer.close()

    async def _talk(self, connection: _Connection) -> None:
        while not self._stopping.is_set() and await self._awaited(connection):
            try:
                async with asyncio.timeout(self._patience):
                    request, body = await connection.request()
            except h11.RemoteProtocolError as error:
                await connection.reply(Reply(error.error_status_hint, b"this is no request\n"), last=True)
                return
            except TimeoutError:
                await connection.reply(Reply(408, b"the request took too long\n"), last=True)
                return
            if body is None:
                await connection.reply(Reply(413, b"the request is too large\n"), last=True)
                return
            reply = await self._answer(request.method.decode("ascii"), request.target, body)
            async with asyncio.timeout(self._patience):
                await connection.reply(reply, head=request.method == b"HEAD", last=self._stopping.is_set())
            if not connection.again():
                return

    async def _awaited(self, connection: _Connection) -> bool:
        """Wait for the first byte of a request, or for the end; True when there is something to read."""
        waiting = {asyncio.ensure_future(connection.more()), asyncio.ensure_future(self._stopping.wait())}
        try:
            done, _ = await asyncio.wait(waiting, timeout=self._idle, return_when=asyncio.FIRST_COMPLETED)
            return any(task.result() is True and not self._stopping.is_set() for task in done)
        finally:
            for task in waiting:
                task.cancel()

    async def _answer(self, method: str, target: bytes, body: bytes) -> Reply:
        path = target.decode("latin-1").partition("?")[0]
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._handle, method, path, body)
        except Exception:  # noqa: BLE001  whatever goes wrong in one answer, the others must still get theirs
            _log.exception("a request could not be answered", path=path)
            return Reply(500, b"internal error\n")


class _Connection:
    """One client's bytes, as requests and replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_body: int) -> None:
        self._reader = reader
        self._writer = writer
        self._max_body = max_body
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEADERS)
        self._waiting = b""

    async def more(self) -> bool:
        """Whether the client has sent anything more before it closed."""
        if self._http.trailing_data[0] or self._waiting:
            return True
        self._waiting = await self._reader.read(_MAX_HEADERS)
        return bool(self._waiting)

    async def _event(self) -> h11.Event:
        while True:
            event = self._http.next_event()
            if not isinstance(event, type):
                return event
            if event is h11.PAUSED:
                raise h11.RemoteProtocolError("the connection has ended")
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            data, self._waiting = self._waiting or await self._reader.read(_MAX_HEADERS), b""
            self._http.receive_data(data)

    async def request(self) -> tuple[h11.Request, bytes | None]:
        """The next request with its body; None for one that is too large. Raises h11.RemoteProtocolError."""
        request = await self._event()
        if not isinstance(request, h11.Request):
            raise h11.RemoteProtocolError("the connection ended")
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > self._max_body:
                return request, None
        return request, bytes(body)

    async def reply(self, reply: Reply, *, head: bool = False, last: bool = False) -> None:
        """Send a reply; `last`: and say that no other follows."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body)))]
        headers += [("Connection", "close")] if last else []
        await self._send(h11.Response(status_code=reply.status, headers=headers))
        if not head:
            await self._send(h11.Data(data=reply.body))
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()

    async def leave(self) -> None:
        """Close in a way that lets the client read the last reply, though it may still be sending."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        async with asyncio.timeout(_LINGER):
            while await self._reader.read(_MAX_HEADERS):
                pass

    def again(self) -> bool:
        """Whether another request may follow on this connection."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True
