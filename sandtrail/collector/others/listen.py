"""Records that are sent to us: JSON over HTTP POST, and Envoy's access log service over gRPC.

The servers are those of the claims' receiver: HTTP/1.1 and HTTP/2 without TLS, bounded in time, connections and memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from sandtrail.collector.claims.allowance import Turn
from sandtrail.collector.claims.answers import Answer
from sandtrail.collector.claims.export import Export
from sandtrail.collector.claims.limits import MEMORY
from sandtrail.collector.claims.link import STEP, Link, drain
from sandtrail.collector.gateway.coding import UndecodableError, decoder_for
from sandtrail.collector.others.accesslogs import AccessLogs
from sandtrail.collector.others.intake import Intake
from sandtrail.collector.others.pieces import pieces_of
from sandtrail.collector.share import Memory
from sandtrail.errors import StoreError, UsageError

__all__ = ["Listener", "parse_address"]

DRAIN_S: Final = 3.0
LOOK_S: Final = 5.0
MAX_BATCH: Final = 64 << 20
"""Of a request's body with its content coding undone."""


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` -> both. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"--listen {text}: write an address and a port, such as 127.0.0.1:4320")
    return host.strip("[]"), int(port)


class Listener(Memory):
    """Serves one address until it is stopped. It is what a connection hands its exports to (`claims.link.Taker`)."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.connections = 0
        self.counts = dict.fromkeys(("connections", "refused", "up_bytes", "down_bytes"), 0)
        self.memory = MEMORY
        self.turn = Turn()
        self._links: set[Link] = set()

    async def run(self, host: str, port: int, stop: asyncio.Event, ready: Callable[[str], None]) -> str:
        """Listen until `stop` is set; `ready` is told the address. Returns why it is over. Raises UsageError when the
        address can't be had."""
        try:
            server = await asyncio.start_server(self._serve, host, port, limit=STEP)
        except OSError as error:
            raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        named = server.sockets[0].getsockname()
        shown = f"[{named[0]}]" if server.sockets[0].family == socket.AF_INET6 else named[0]
        ready(f"http://{shown}:{named[1]}")
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)
            with contextlib.suppress(StoreError):  # it is tried again
                self.intake.rest()
        server.close()
        await drain(self._links, DRAIN_S)
        return "stopped"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Calls(self, reader, writer) if self.intake.source.name == "envoy" else Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.serve()
        finally:
            self._links.discard(link)

    async def take(self, export: Export) -> Answer:
        """Record a request's records, each by itself. What is answered with 200 is in the spool."""
        problem = export.problem or (Answer.TOO_LARGE if export.cut else None)
        if export.method != "POST":
            return Answer.METHOD
        if problem is not None:
            self._lost(f"a request was not taken: HTTP status {HTTPStatus(problem.http).value}")
            return problem
        try:
            body = _plain(bytes(export.body), export.compressed)
        except UndecodableError:
            self._lost("a request was not compressed as its head said")
            return Answer.MALFORMED
        try:
            for piece in pieces_of(body):
                self.intake.take(piece, "http", peer=list(export.client))
                await asyncio.sleep(0)
        except StoreError:
            return Answer.UNRECORDED
        return Answer.RECORDED

    def _lost(self, cause: str) -> None:
        with contextlib.suppress(StoreError):  # the sender is told the same
            self.intake.lost(cause)

    def refuse(self, client: tuple[str, int], port: int, reason: str) -> None:
        """A connection was turned away or broken off."""
        self.counts["refused"] += 1
        if self.counts["refused"] <= 200:
            self._lost(f"a connection was broken off: {self.intake.redactor.message(reason)}")

    def ended(self, client: tuple[str, int], port: int, up: int, down: int) -> None:
        """A connection is over."""
        self.counts["up_bytes"] += up
        self.counts["down_bytes"] += down


class _Calls(Link):
    """A connection of Envoy's: what speaks HTTP/2 on it is a client of the access log service."""

    async def _speak_http2(self, first: bytes) -> None:
        assert isinstance(self.session, Listener)
        await AccessLogs(self, self.session.intake).run(first)


def _plain(body: bytes, coding: str) -> bytes:
    """A body without its content coding, up to `MAX_BATCH`. Raises UndecodableError."""
    decoder = decoder_for(coding)
    if decoder is None:
        return body
    out = bytearray()
    for piece in decoder.feed(body):
        out += piece[: MAX_BATCH - len(out)]
        if len(out) >= MAX_BATCH:
            break
    return bytes(out)
