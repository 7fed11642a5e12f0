"""The keeper's control socket, its side: one JSON object a packet in, one out, whatever comes in."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandtrail.collector.control import receive, send
from sandtrail.collector.endpoints import accept, listener
from sandtrail.errors import RecorderError

__all__ = ["Handler", "Requests", "answer"]

Message = dict[str, Any]
# Gets the connection, the request and its file descriptors, of which it pops what it keeps. Returns the answer, or None
# where it will answer later. A KeyError stands for a missing field; other errors are told to the asker in their words.
Handler = Callable[[socket.socket, Message, list[int]], Message | None]


def answer(connection: socket.socket, message: Message) -> None:
    """Answer a request, without ever waiting for the asker, who may have gone or read nothing."""
    with contextlib.suppress(OSError, RecorderError):
        send(connection, message)


class Requests:
    """The clients of the control socket."""

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        handlers: Mapping[str, Handler],
        hung_up: Callable[[socket.socket], None],
    ) -> None:
        """`hung_up` is told of a connection that has ended; it is closed by then."""
        self._selector = selector
        self._handlers = handlers
        self._hung_up = hung_up
        self._clients: set[socket.socket] = set()
        selector.register(listener(path), selectors.EVENT_READ, self._accept)

    def __len__(self) -> int:
        return len(self._clients)

    def _accept(self, sock: socket.socket) -> None:
        connection = accept(sock)
        if connection is not None:
            self._clients.add(connection)
            self._selector.register(connection, selectors.EVENT_READ, self._request)

    def _request(self, connection: socket.socket) -> None:
        try:
            message, fds = receive(connection)
        except BlockingIOError:
            return
        except OSError:
            message, fds = None, []
        if message is None:
            self._selector.unregister(connection)
            self._clients.discard(connection)
            connection.close()
            self._hung_up(connection)
            reply = None
        else:
            reply = self._handle(connection, message, fds)
        for fd in fds:
            os.close(fd)
        if reply is not None:
            answer(connection, reply)

    def _handle(self, connection: socket.socket, message: Message, fds: list[int]) -> Message | None:
        op = message.get("op")
        handler = self._handlers.get(op) if isinstance(op, str) else None
        if handler is None:
            return {"ok": False, "error": f"unknown request {op!r:.100}"}
        try:
            return handler(connection, message, fds)
        except KeyError as error:
            return {"ok": False, "error": f"the request lacks {error}"}
        except (IndexError, OSError, TypeError, ValueError) as error:
            return {"ok": False, "error": str(error)}
