"""The sockets that the receiver records from: the keeper holds each while it is open, for the receiver's successor."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sandtrail.collector.children import Child, Children
from sandtrail.collector.landing import PLACES

__all__ = ["Held", "HeldSockets"]

Message = dict[str, Any]
_STREAMS = 100


@dataclass(slots=True)
class Held:
    """A socket, and what its frames are recorded as."""

    place: int
    fd: int
    session: str
    descriptor: Message
    gvisor: bool
    stream: str = ""
    # The streams that earlier receivers were to write from this socket.
    before: list[str] = field(default_factory=list)


class HeldSockets:
    """All of them, by their places in the receiver's landing."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._held: dict[int, Held] = {}

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)

    def of(self, session: str) -> list[Held]:
        """Those of a session."""
        return [held for held in self._held.values() if held.session == session]

    def add(self, fd: int, session: str, descriptor: Message, *, gvisor: bool) -> None:
        """Have a socket recorded; it is ours from now on. There must be a place for it."""
        place = next(place for place in range(PLACES) if place not in self._held)
        held = self._held[place] = Held(place, fd, session, descriptor, gvisor)
        with socket.socket(fileno=os.dup(fd)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # see Landing.receive
        receiver = self._children.get("receiver")
        # One that is just being started again gets everything that we hold.
        if receiver is not None:
            self._hand_over(receiver, held)

    def hand_over(self, receiver: Child) -> None:
        """Have a new receiver record from all of them."""
        for held in self._held.values():
            self._hand_over(receiver, held)

    def _hand_over(self, receiver: Child, held: Held) -> None:
        # Which of the streams before it was opened last, the receiver knows.
        if held.stream:
            held.before.append(held.stream)
        held.stream = os.urandom(8).hex()
        facts = {"id": held.place, "stream": held.stream, "before": held.before[-_STREAMS:], "gvisor": held.gvisor}
        receiver.tell({"op": "take", "descriptor": held.descriptor, **facts}, (held.fd,))

    def drop(self, held: Held, reason: str) -> None:
        """Have the receiver record what has arrived, and no more; it says when it has (`closed`)."""
        receiver = self._children.get("receiver")
        if receiver is not None:
            receiver.tell({"op": "drop", "id": held.place, "reason": reason})

    def closed(self, place: int) -> Held | None:
        """Let go of a socket that the receiver has recorded to its end."""
        held = self._held.pop(place, None)
        if held is not None:
            os.close(held.fd)
        return held
