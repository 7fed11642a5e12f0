"""The sessions of a keeper: each begins with a request and ends when nothing of it is open any more.

Whoever began one may die: its sandbox is then ended by a cleanup, and recorded until it has.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sandtrail.collector.children import say
from sandtrail.collector.endpoints import Handshakes, accept, listener
from sandtrail.collector.held import Held, HeldSockets
from sandtrail.collector.requests import answer
from sandtrail.collector.services import Services

__all__ = ["Session", "Sessions"]

Message = dict[str, Any]
END_TIMEOUT = 5.0
CLEANUP_TIMEOUT = 60.0


@dataclass(slots=True)
class Session:
    """One run of an agent, as far as the keeper has to know it."""

    name: str
    owner: socket.socket | None
    # What every stream of it has in its descriptor.
    descriptor: Message
    endpoint: socket.socket | None
    path: Path
    # Services that were told of the session's end and have not come to theirs.
    unlistening: set[str] = field(default_factory=set)
    closed: list[Message] = field(default_factory=list)
    askers: list[socket.socket] = field(default_factory=list)
    # Zero until the session is to end.
    deadline: float = 0.0

    @property
    def ending(self) -> bool:
        """Whether nothing new may be recorded for it."""
        return self.deadline > 0

    def described(self, descriptor: Message) -> Message:
        """The descriptor of a stream of this session, whatever the asker says whose it is."""
        return {**descriptor, "session": self.name, "sandbox": self.descriptor["sandbox"]}


class Sessions:
    """Those of one keeper, by their names."""

    def __init__(
        self,
        home: Path,
        folder: Path,
        selector: selectors.BaseSelector,
        parts: tuple[Handshakes, HeldSockets, Services],
        connected: Callable[[socket.socket, str], None],
    ) -> None:
        """Endpoints are made in `folder`. `parts` may hold something of a session; `connected` gets each connection to
        an endpoint, and the session's name."""
        self._home = home
        self._folder = folder
        self._selector = selector
        self._handshakes, self._held, self._services = parts
        self._connected = connected
        self._sessions: dict[str, Session] = {}
        self._cleanups: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __bool__(self) -> bool:
        return bool(self._sessions or self._cleanups)

    def names(self) -> list[str]:
        """Those that have not ended."""
        return list(self._sessions)

    def get(self, name: str) -> Session | None:
        """The session of that name, if there is one."""
        return self._sessions.get(name)

    def asked(self, message: Message) -> Session:
        """The session that a request is about. Raises ValueError where there is none, KeyError where it names none."""
        name = message["session"]
        if not isinstance(name, str) or name not in self._sessions:
            raise ValueError(f"there is no session {name!r:.100}")
        return self._sessions[name]

    def begin(self, name: str, sandbox: str, descriptor: Message, owner: socket.socket) -> Path:
        """Begin a session, which ends with its owner at the latest; returns where its sandbox is to connect to.

        Raises ValueError when the name is none or is in use, OSError when the endpoint cannot be made.
        """
        plain = name.replace("-", "").replace("_", "")
        if not (plain.isascii() and plain.isalnum() and len(name) <= 64):
            raise ValueError(f"{name!r:.100} is no session id: up to 64 of letters, digits, '-' and '_'")
        if name in self._sessions:
            raise ValueError(f"session {name!r} is in use")
        path = self._folder / f"{name}.sock"
        endpoint = listener(path)
        self._selector.register(endpoint, selectors.EVENT_READ, partial(self._accept, name))
        facts = {**descriptor, "session": name, "sandbox": sandbox}
        self._sessions[name] = Session(name, owner, facts, endpoint, path)
        return path

    def _accept(self, name: str, endpoint: socket.socket) -> None:
        connection = accept(endpoint)
        if connection is not None:
            self._connected(connection, name)

    def orphan(self, owner: socket.socket) -> None:
        """Whoever began these sessions is gone: have the sandboxes ended, and go on recording until they have."""
        for session in self._sessions.values():
            if session.owner is owner:
                session.owner = None
                if not session.ending and session.name not in self._cleanups:
                    self._clean_up(session.name)

    def _clean_up(self, name: str) -> None:
        say(f"session {name} lost its owner; cleaning up")
        command = [sys.executable, "-m", "sandtrail.collector.session.cleanup", "--home", str(self._home), name]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/")
        self._cleanups[name] = process, time.monotonic() + CLEANUP_TIMEOUT

    def end(self, session: Session, asker: socket.socket | None = None) -> None:
        """Begin to end a session: nothing new is taken, and what has arrived is recorded; then `asker` is answered."""
        if asker is not None:
            session.askers.append(asker)
        if session.ending:
            return
        session.deadline = time.monotonic() + END_TIMEOUT
        if session.endpoint is not None:
            while (connection := accept(session.endpoint)) is not None:
                self._connected(connection, session.name)
            self._selector.unregister(session.endpoint)
            session.endpoint.close()
            session.endpoint = None
            session.path.unlink(missing_ok=True)
        self._services.close(session.name, session.unlistening, partial(self._unlistened, session))
        for held in self._held.of(session.name):
            if not held.gvisor:
                self._held.drop(held, "session ended")
        self._try_end(session)

    def _unlistened(self, session: Session, name: str, said: Message) -> None:
        session.closed.append({"source": name, **{key: said.get(key) for key in ("stream", "frames", "error")}})
        self._try_end(session)

    def closed(self, held: Held, said: Message) -> None:
        """A socket was recorded to its end; `said` is the receiver's word of it."""
        session = self._sessions.get(held.session)
        if session is not None:
            facts = {key: said.get(key) for key in ("stream", "frames", "dropped", "reason")}
            before = {"continues": held.before} if held.before else {}
            session.closed.append({"source": held.descriptor.get("source"), **facts, **before})
            self._try_end(session)

    def let_go(self, name: str) -> None:
        """A connection of the session, if there is such a one, will not be recorded after all."""
        session = self._sessions.get(name)
        if session is not None:
            self._try_end(session)

    def _try_end(self, session: Session) -> None:
        """Answer `end` once nothing of the session is open any more."""
        if (
            not session.ending
            or session.unlistening
            or self._held.of(session.name)
            or self._handshakes.waiting(session.name)
        ):
            return
        if self._sessions.pop(session.name, None) is not None:
            for asker in session.askers:
                answer(asker, {"ok": True, "streams": session.closed})

    def expire(self) -> None:
        """End those whose cleanup is done, and give up what keeps others from ending."""
        now = time.monotonic()
        for name, (process, deadline) in list(self._cleanups.items()):
            if process.poll() is None and now > deadline:
                say(f"the cleanup of session {name} takes too long; killing it")
                process.kill()
                process.wait()
            if process.poll() is not None:
                del self._cleanups[name]
                if name in self._sessions:
                    self.end(self._sessions[name])
        for session in list(self._sessions.values()):
            if session.ending and now > session.deadline:
                session.deadline = now + END_TIMEOUT
                session.unlistening.clear()
                for held in self._held.of(session.name):
                    self._held.drop(held, "still open when its session ended")
                self._try_end(session)
