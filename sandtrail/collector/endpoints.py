"""The sockets that the keeper listens on, and trace connections until they have shown that they are gVisor's."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandtrail.collector.children import say
from sandtrail.collector.handshake import REPLY, handshake_version

__all__ = ["Handshakes", "accept", "listener"]

HANDSHAKE_TIMEOUT = 5.0
_FIRST = 10_240
_SHOWN = 512


def listener(path: Path) -> socket.socket:
    """A SOCK_SEQPACKET listener at `path` that nobody but the owner may connect to."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    old = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(64)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(old)
    return sock


def accept(sock: socket.socket) -> socket.socket | None:
    """The next connection, not blocking; None when there is none after all or no descriptor is left for it."""
    try:
        connection, _ = sock.accept()
    except BlockingIOError:
        return None
    except OSError as error:
        say(f"cannot accept a connection: {error.strerror}")
        time.sleep(0.05)  # it stays in the queue, and we would spin
        return None
    connection.setblocking(False)
    return connection


class Handshakes:
    """Trace connections that have not said their first word yet."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        greeted: Callable[[socket.socket, str, dict[str, Any]], None],
        refused: Callable[[dict[str, Any]], None],
    ) -> None:
        """`greeted` gets a connection, the session whose endpoint it came to, and what is known of the other side;
        `refused` gets what to record about one that was closed."""
        self._selector = selector
        self._greeted = greeted
        self._refused = refused
        self._pending: dict[socket.socket, tuple[str, float]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def waiting(self, session: str) -> bool:
        """Whether a connection to this session's endpoint is among them."""
        return any(name == session for name, _ in self._pending.values())

    def add(self, connection: socket.socket, session: str) -> None:
        """Wait for the handshake of a new connection."""
        self._pending[connection] = (session, time.monotonic() + HANDSHAKE_TIMEOUT)
        self._selector.register(connection, selectors.EVENT_READ, self._shake)

    def _shake(self, connection: socket.socket) -> None:
        session, _ = self._pending.pop(connection)
        self._selector.unregister(connection)
        peer: dict[str, Any] = {"session": session}
        try:
            pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            peer |= {"peer_pid": pid, "peer_uid": uid}
            first = connection.recv(_FIRST)
            version = handshake_version(first)
        except OSError as error:
            self._refuse(connection, {"cause": f"a handshake failed: {error.strerror}", **peer})
            return
        if version is None:
            cause = "a trace connection did not begin with gVisor's handshake and was closed"
            self._refuse(connection, {"cause": cause, "first": first[:_SHOWN].hex(), "bytes": len(first), **peer})
            return
        # One that has hung up by now may still have said something.
        with contextlib.suppress(OSError):
            connection.send(REPLY)
        del peer["session"]
        self._greeted(connection, session, {"protocol": version, **peer})

    def expire(self) -> None:
        """Close those that have said nothing for too long."""
        now = time.monotonic()
        for connection, (session, deadline) in list(self._pending.items()):
            if now > deadline:
                del self._pending[connection]
                self._selector.unregister(connection)
                cause = "a trace connection sent no handshake and was closed"
                self._refuse(connection, {"cause": cause, "session": session})

    def _refuse(self, connection: socket.socket, fact: dict[str, Any]) -> None:
        connection.close()
        self._refused({"note": "error", **fact})
