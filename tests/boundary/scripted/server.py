"""A scripted model API: the real protocol over real HTTP, answers that are written down beforehand. No model is in it.

Each API has a module beside this one that says what its server answers: a function from path and request to `Reply`. It
keeps no state: what the conversation already holds says which turn is next. Every answer carries
`x-scripted-model: true`, so that nobody takes it for a real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sandtrail.replay.models import Exchange
from tests.collector.gateway.upstream import Handler, Server, serving

__all__ = ["Reply", "Scripted", "scripted"]


@dataclass
class Reply:
    """An answer: whole if it is one piece of bytes, else streamed piece by piece."""

    media: str
    body: bytes | list[bytes]
    status: int = 200


@dataclass
class Scripted:
    """The server while it runs, and what passed over it, in order."""

    server: Server
    passed: list[Exchange] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its base address."""
        return self.server.url


@contextmanager
def scripted(answer: Callable[[str, Any], Reply]) -> Iterator[Scripted]:
    """Serve the script on a loopback port for as long as the block lasts."""
    found = Scripted(Server())

    def route(handler: Handler) -> None:
        asked = handler.asked
        # A client that takes this server for its proxy asks for a whole URL.
        url = urlsplit(asked.path)
        reply = answer(url.path, json.loads(asked.body or b"null"))
        whole = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
        heads = {"content-type": reply.media, "x-scripted-model": "true"}
        # Kept before it is sent: a client that has its last byte may look at once.
        found.passed.append(
            Exchange(
                "scripted",
                str(len(found.passed)),
                method=asked.method,
                url=asked.path if url.netloc else f"{found.url}{asked.path}",
                request_headers=list(asked.headers.items()),
                request_body=asked.body,
                status=reply.status,
                response_headers=list(heads.items()),
                response_body=whole,
                response_done=True,
            )
        )
        if isinstance(reply.body, bytes):
            handler.answer(reply.body, reply.status, **heads)
            return
        handler.head(reply.status, **heads, transfer_encoding="chunked")
        for piece in reply.body:
            if piece:
                handler.chunk(piece)
        handler.chunk(b"")

    found.server.fallback = route
    with serving(found.server):
        yield found
