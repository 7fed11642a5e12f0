"""A server that answers like a streaming model API: so many events, so far apart. It is no model.

Run as a process: `python -m bench.egress.model`. It prints its port, and serves until it is ended. A request says in
`x-events` how many events it wants, and in `x-pause-us` how many microseconds apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

DONE = b"data: [DONE]\n\n"


def event(number: int) -> bytes:
    """One event as Chat Completions has it."""
    delta = {"index": 0, "delta": {"content": f"word-{number:06d} "}, "logprobs": None, "finish_reason": None}
    chunk = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "model": "bench", "choices": [delta]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.partition(": ")[::2] for line in head.split("\r\n")[1:] if line)
            await reader.readexactly(int(fields.get("content-length", "0")))
            await _answer(writer, int(fields["x-events"]), int(fields["x-pause-us"]) / 1e6)
    writer.close()


async def _answer(writer: asyncio.StreamWriter, events: int, pause_s: float) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number in range(events):
        data = event(number) if number < events - 1 else DONE
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await writer.drain()
        due += pause_s
        if (left := due - loop.time()) > 0:
            await asyncio.sleep(left)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=1 << 20, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
