"""A connection from the sandbox: which protocol it speaks, its clock, and its byte counts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final, Protocol

from sandtrail.collector.claims.allowance import Turn
from sandtrail.collector.claims.answers import Answer
from sandtrail.collector.claims.export import Export, Headers
from sandtrail.collector.claims.limits import CONNECTIONS, EXPORT_S, FIELDS, IDLE_S, LINGER_S, STALL_S
from sandtrail.collector.claims.session import address

__all__ = ["BrokenError", "Link", "Taker", "drain"]

STEP: Final = 64 << 10
WEIGHT: Final = 2048
"""What an export takes beside head and body while it is under way."""


class BrokenError(Exception):
    """The connection can't go on; the text says why."""


class Taker(Protocol):
    """Whoever takes the exports that come on connections, and counts."""

    connections: int
    counts: dict[str, int]
    turn: Turn

    def reserve(self, size: int) -> bool:
        """Take memory for an export under way."""

    def release(self, size: int) -> None:
        """Give it back."""

    async def take(self, export: Export) -> Answer:
        """Record an export."""

    def refuse(self, client: tuple[str, int], port: int, reason: str) -> None:
        """A connection was turned away or broken off."""

    def ended(self, client: tuple[str, int], port: int, up: int, down: int) -> None:
        """A connection is over."""


class Link:
    """Bytes in and out of one connection, within bounds of time."""

    def __init__(self, session: Taker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.session = session
        self.client = address(writer.get_extra_info("peername"))
        self.port = address(writer.get_extra_info("sockname"))[1]
        self.up = self.down = 0
        self.since: float | None = None
        """When the oldest export under way began; None while there is none."""
        self._reader = reader
        self._writer = writer
        self._working = 0

    @property
    def busy(self) -> bool:
        """Whether an export is under way."""
        return self.since is not None or self._working > 0

    async def read(self) -> bytes:
        """The next bytes; b"" at the end. Raises BrokenError when none come in time."""
        if self.since is None:
            seconds, why = IDLE_S, "nothing was sent for too long"
        else:
            left = self.since + EXPORT_S - time.monotonic()
            seconds, why = max(0.0, min(STALL_S, left)), "an export took too long"
        try:
            async with asyncio.timeout(seconds):
                data = await self._reader.read(STEP)
        except TimeoutError:
            raise BrokenError(why) from None
        except OSError as error:
            raise BrokenError(f"the connection broke: {error.strerror}") from None
        self.up += len(data)
        return data

    async def write(self, data: bytes) -> None:
        """Send an answer. Raises BrokenError when the other side does not take it."""
        self.down += len(data)
        try:
            self._writer.write(data)
            async with asyncio.timeout(STALL_S):
                await self._writer.drain()
        except TimeoutError:
            raise BrokenError("an answer was not taken in time") from None
        except OSError as error:
            raise BrokenError(f"the connection broke: {error.strerror}") from None

    def export(self, http_version: str, method: str, path: str, headers: Headers) -> Export:
        """Begin an export. Its head takes memory, too: of exports that are taken back there may be many."""
        export = Export(self.client, self.port, http_version, method, path, headers)
        size = WEIGHT + len(path) + sum(len(name) + len(value) for name, value in headers)
        if len(headers) > FIELDS:
            export.problem, export.headers = Answer.MALFORMED, headers[:FIELDS]
        if self.session.reserve(size):
            export.held = size
        else:
            export.problem, export.path, export.headers = Answer.BUSY, path[:200], ()
        return export

    def grow(self, export: Export, data: bytes) -> bool:
        """Take bytes of an export's body; False where nothing more of it is kept: it is too long, or there is no room
        for it now."""
        if export.problem is not None or not self.session.reserve(len(data)):
            export.problem = Answer.BUSY
            return False
        export.held += len(data)
        return export.add(data)

    async def record(self, export: Export, *, whole: bool = True) -> Answer:
        """Record an export, and let go of it. One that is not `whole` broke off: what came of it is the agent's word,
        too; where nothing came there is nothing to record."""
        self._working += 1
        try:
            if not whole:
                export.cut, export.problem = True, export.problem or Answer.MALFORMED
            return await self.session.take(export) if whole or export.taken else Answer.MALFORMED
        finally:
            self._working -= 1
            self.session.release(export.held)
            export.held, export.body = 0, bytearray()

    def abort(self) -> None:
        """Break the connection off."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.transport.abort()

    async def serve(self) -> None:
        """Until either side has had enough. Records what went wrong, and the connection's end."""
        session = self.session
        session.counts["connections"] += 1
        session.connections += 1
        try:
            if session.connections > CONNECTIONS:
                raise BrokenError(f"{CONNECTIONS} connections are open")
            await self._speak()
        except BrokenError as error:
            session.refuse(self.client, self.port, str(error))
        finally:
            session.connections -= 1
            session.ended(self.client, self.port, self.up, self.down)
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(STALL_S):
                    await self._writer.wait_closed()

    async def linger(self) -> None:
        """After an answer that came before the end of what was asked: read on for a moment, so that the answer is not
        lost with the connection (RFC 9112, section 9.6)."""
        with contextlib.suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                while data := await self._reader.read(STEP):
                    self.up += len(data)

    async def _speak(self) -> None:
        # HTTP/2 without TLS begins with a preface that is no HTTP/1 (RFC 9113, section 3.4).
        from sandtrail.collector.claims.http1 import Http1
        from sandtrail.collector.claims.http2 import PREFACE

        first = b""
        while len(first) < len(PREFACE) and PREFACE.startswith(first):
            data = await self.read()
            if not data:
                return
            self.since = self.since or time.monotonic()
            first += data
        if first.startswith(PREFACE):
            await self._speak_http2(first)
        else:
            await Http1(self).run(first)

    async def _speak_http2(self, first: bytes) -> None:
        from sandtrail.collector.claims.http2 import Http2

        await Http2(self).run(first)


async def drain(links: set[Link], seconds: float) -> None:
    """Let what is under way on these connections end, for at most so many seconds, then end them. A connection leaves
    the set when it is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while any(link.busy for link in links) and loop.time() < deadline:
        await asyncio.sleep(0.01)
    for link in list(links):
        link.abort()
    while links and loop.time() < deadline + seconds:
        await asyncio.sleep(0.01)
