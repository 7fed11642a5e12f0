"""A client of the bench's model: when did the first event come, when the last, and did all of them."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from bench.egress.model import DONE

__all__ = ["NAME", "Client", "Timing", "Way"]

NAME = "model.test"


@dataclass(frozen=True)
class Way:
    """How to get to the model: at its own port in clear, or through a proxy with TLS to the proxy's authority."""

    port: int
    authority: Path | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds from the first byte of a request to the first and to the last event of its answer."""

    first_s: float
    last_s: float
    whole: bool
    """Whether the answer holds each event, in order."""


class Client:
    """One connection, kept for as many requests as are asked."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, way: Way) -> Client:
        """Raises OSError where the proxy does not let it through."""
        reader, writer = await asyncio.open_connection("127.0.0.1", way.port, limit=1 << 22)
        if way.authority is not None:
            writer.write(f"CONNECT {NAME}:443 HTTP/1.1\r\nHost: {NAME}:443\r\n\r\n".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in answer.split(b"\r\n")[0] + b" ":
                raise ConnectionRefusedError(answer.decode("latin-1")[:200])
            await writer.start_tls(ssl.create_default_context(cafile=str(way.authority)), server_hostname=NAME)
        return cls(reader, writer)

    async def ask(self, body: bytes, events: int, pause_us: int) -> Timing:
        """One request and its streamed answer."""
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {NAME}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer sk-bench-0123456789abcdef0123456789\r\nX-Events: {events}\r\n"
            f"X-Pause-Us: {pause_us}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        begun = time.perf_counter()
        self._writer.write(head.encode() + body)
        await self._writer.drain()
        status = await self._reader.readuntil(b"\r\n\r\n")
        first = last = 0.0
        got = 0
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            data = await self._reader.readexactly(size + 2)
            last = time.perf_counter()
            first = first or last
            got += data.count(b"data: ")
        await self._reader.readuntil(b"\r\n")
        whole = b" 200 " in status.split(b"\r\n")[0] and got == events and data[:-2].endswith(DONE)
        return Timing(first - begun, last - begun, whole)

    def close(self) -> None:
        """Without ceremony."""
        self._writer.close()
