"""Listening sockets of sandboxes' links: the keeper holds each, for the successor of the process that serves it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sandtrail.collector.children import Child, Children, end
from sandtrail.collector.requests import answer

__all__ = ["SERVICES", "Services"]

Message = dict[str, Any]
# The processes that serve them, by the word in a request.
SERVICES = {"gateway": "sandtrail.collector.gateway", "claims": "sandtrail.collector.claims"}


@dataclass(slots=True)
class _Listening:
    """Sockets of one session that one service serves."""

    fds: tuple[int, ...]
    descriptor: Message
    # Whoever waits for the service to listen.
    asker: socket.socket | None
    # The last stream that a process of the service has begun for it.
    stream: str = ""


class Services:
    """The services of one keeper; each is started when the first session wants it."""

    def __init__(self, children: Children) -> None:
        self._children = children
        # By service, then by session.
        self._listening: dict[str, dict[str, _Listening]] = {name: {} for name in SERVICES}

    def serves(self, name: str, session: str) -> bool:
        """Whether a service listens for a session."""
        return session in self._listening[name]

    def listen(
        self, name: str, session: str, fds: tuple[int, ...], descriptor: Message, asker: socket.socket | None
    ) -> None:
        """Have sockets served, which are ours from now on; `asker` is answered when they are."""
        self._listening[name][session] = _Listening(fds, descriptor, asker)
        service = self._children.get(name)
        if service is None:
            self.start(name)
        else:
            self._serve(service, session)

    def start(self, name: str) -> None:
        """Start a service, or start it again, and hand it all that it is to serve; not if that is nothing."""
        if not self._listening[name]:
            self._children.forget(name)
            return
        service = self._children.start(name, SERVICES[name])
        service.waiting.append(lambda _ready: None)
        for session in self._listening[name]:
            self._serve(service, session)

    def _serve(self, service: Child, session: str) -> None:
        listening = self._listening[service.name][session]
        descriptor = listening.descriptor
        if listening.stream:
            descriptor = {**descriptor, "continues": listening.stream, "since_ns": time.time_ns()}
        message = {"op": "listen", "session": session, "descriptor": descriptor}
        service.ask(message, partial(self._served, listening), listening.fds)

    def _served(self, listening: _Listening, said: Message) -> None:
        """Tell whoever asked for the service; after a restart of its process nobody waits for this."""
        listening.stream = str(said.get("stream") or listening.stream)
        if listening.asker is not None:
            answer(listening.asker, said)
            listening.asker = None

    def close(self, session: str, pending: set[str], closed: Callable[[str, Message], None]) -> None:
        """Have nothing more of a session served; let what is under way end.

        Services that have not ended it yet are in `pending`; `closed` is told of each, with what it says.
        """
        for name, sessions in self._listening.items():
            listening = sessions.pop(session, None)
            if listening is None:
                continue
            for fd in listening.fds:
                os.close(fd)
            service = self._children.get(name)
            if service is not None:
                pending.add(name)
                service.ask({"op": "unlisten", "session": session}, partial(self._closed, name, pending, closed))

    def _closed(self, name: str, pending: set[str], closed: Callable[[str, Message], None], said: Message) -> None:
        pending.discard(name)
        closed(name, said)

    def end(self, seconds: float) -> None:
        """End the processes, one after the other."""
        for name in SERVICES:
            end(self._children.get(name), seconds)
