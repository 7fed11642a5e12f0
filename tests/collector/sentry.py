"""A stand-in for a sandbox's sentry: it speaks the trace protocol of gVisor's remote sink
(pkg/sentry/seccheck/sinks/remote: SOCK_SEQPACKET, one handshake each way, then packets behind a header), and there is
no sandbox behind it. The real runsc is recorded in tests/collector/session.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from types import TracebackType

HANDSHAKE = b"\x08\x01"
EXEC, OPEN = 3, 7


def packet(payload: bytes, *, kind: int = OPEN, dropped: int = 0) -> bytes:
    """A message behind the header of pkg/sentry/seccheck/sinks/remote/wire: its size, the type, the drop counter."""
    return struct.pack("<HHI", 8, kind, dropped % 2**32) + payload


def enlarge(sock: socket.socket, size: int = 8 << 20) -> None:
    """Let a socket send packets as large as root may (SO_SNDBUFFORCE)."""
    sock.setsockopt(socket.SOL_SOCKET, 32, size)


class Sentry:
    """One connection. Leaving the `with` block closes it."""

    def __init__(self, endpoint: str, *, greeting: bytes = HANDSHAKE, read_reply: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        # As much as the kernel lets an ordinary user have; what is larger is for root.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.socket.connect(endpoint)
        self.socket.send(greeting)
        self.reply = self.socket.recv(100) if read_reply else b""

    def send(self, payload: bytes, *, kind: int = OPEN, dropped: int = 0) -> bytes:
        """Send one message; returns the packet as it went."""
        return self.raw(packet(payload, kind=kind, dropped=dropped))

    def raw(self, data: bytes) -> bytes:
        """Send one packet as it is. Like the real sink it waits while nobody reads."""
        self.socket.send(data)
        return data

    def hung_up(self) -> bool:
        """Whether the other side has closed the connection; waits until it has, for a while."""
        with contextlib.suppress(ConnectionResetError):
            return self.socket.recv(100) == b""
        return True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Sentry:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()
