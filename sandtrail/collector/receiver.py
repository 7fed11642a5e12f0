"""The receiver: from the sockets that the keeper hands it into the spool, and nothing else.

Each socket is one stream; each datagram is one frame, verbatim. Of the bytes it reads only what cannot wait: the drop
counter and the type in the header of a gVisor packet (pkg/sentry/seccheck/sinks/remote/wire). Killed at any moment it
loses nothing and writes nothing twice: see `landing` and `batches`.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandtrail import __version__
from sandtrail.collector.batches import Batches, Source, finish
from sandtrail.collector.control import receive, send
from sandtrail.collector.landing import BATCH, Landing
from sandtrail.collector.patience import PatientSpool
from sandtrail.store.frames import stamp

__all__ = ["Receiver"]

# How long to let datagrams gather when the last round found few: one wake-up then serves many.
_NAP = 0.001
# How long a socket that is being given up may go on delivering what the kernel has not handed over yet.
_LAST_WORDS = 5.0
_ERRORS = 3


class Receiver:
    """Serves the keeper on one end of a socket pair."""

    def __init__(self, home: Path, control: socket.socket, landing: Landing) -> None:
        self._control = control
        self._landing = landing
        self._sources: dict[int, Source] = {}
        self._ready: deque[int] = deque()
        self._epoll = select.epoll()
        self._epoll.register(control.fileno(), select.EPOLLIN)
        self._stopping: str | None = None
        unfinished = landing.unfinished()
        vanished = finish(landing, unfinished) if unfinished else None
        landing.prepare()
        # The keeper holds each spool's lock with us: as long as it does, the sealer leaves the file to our successor.
        self._spool = PatientSpool(home, "receiver")
        self._spool.on_new_file = lambda fd: self._tell({"op": "spool"}, [fd])
        self._tell({"op": "spool"}, [self._spool.fileno()])
        self._batches = Batches(landing, self._spool)
        self._own = self._spool.open({"source": "collector", "version": __version__, "pid": os.getpid()})
        if vanished:
            self._own.note({"note": "gap", **vanished})

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the keeper hangs up or says stop; then drain every socket and close every stream."""
        while self._stopping is None:
            self._round(-1)
        for source in list(self._sources.values()):
            self._give_up(source, self._stopping)
        while self._sources:
            self._round(0.1)
        self._own.close(self._stopping)
        self._spool.close()

    def _round(self, timeout: float) -> None:
        events = self._epoll.poll(0 if self._ready else timeout)
        for fd, _ in events:
            if fd == self._control.fileno():
                self._command()
            elif fd not in self._ready:
                self._ready.append(fd)
        full = False
        for _ in range(len(self._ready)):
            fd = self._ready.popleft()
            source = self._sources.get(fd)
            if source is None:
                continue
            # One batch a turn: no sandbox waits for another's flood.
            more = self._drain(source) == BATCH
            full = full or more
            if more or (source.ending is not None and fd in self._sources):
                self._ready.append(fd)
        self._confess()
        if events and not full:
            time.sleep(_NAP)

    def _drain(self, source: Source) -> int:
        """Record one batch; returns how many datagrams it had."""
        try:
            lengths, ended = self._batches.receive(source)
        except OSError as error:
            self._socket_error(source, error)
            return 0
        if lengths:
            self._batches.record(source, lengths)
        self._batches.done()
        self._confess()
        if ended or (source.ending is not None and not lengths):
            self._close(source, "end of connection")
        elif source.deadline and time.monotonic() > source.deadline:
            cause = "still arriving when the recorder let go of it"
            self._note(source, {"note": "gap", "cause": cause, "count": None, "after_seq": source.stream.seq - 1})
            self._close(source, "let go")
        return len(lengths)

    def _confess(self) -> None:
        """Note what the spool had to endure since the last time, before a stream that it concerns has ended."""
        troubles, self._spool.troubles = self._spool.troubles, ()
        for trouble in troubles:
            # Where it was only full: whoever could not wait has lost something, and says so in a stream of its own.
            self._own.note(trouble)
            for source in self._sources.values() if trouble["note"] == "gap" else ():
                self._note(source, {**trouble, "after_seq": source.stream.seq - 1})

    def _note(self, source: Source, note: dict[str, Any]) -> None:
        source.stream.note({**note, "from_ns": source.heard_ns, "to_ns": stamp().realtime_ns})

    def _socket_error(self, source: Source, error: OSError) -> None:
        if error.errno == errno.ENOBUFS:
            # Netlink: the kernel had more to say than the buffer held; how much more it does not tell.
            cause = "netlink buffer overrun"
            self._note(source, {"note": "gap", "cause": cause, "count": None, "after_seq": source.stream.seq - 1})
            return
        # An error is told once, before what was sent until then: a peer that closes without having read everything
        # resets the connection, and its last messages are still there.
        source.ending = source.ending or f"socket error: {error.strerror}"
        source.errors += 1
        if source.errors >= _ERRORS:
            self._close(source, "")

    def _give_up(self, source: Source, reason: str) -> None:
        """Let no more arrive, record what has, and close."""
        source.ending = source.ending or reason
        source.deadline = time.monotonic() + _LAST_WORDS
        if source.fd not in self._ready:
            self._ready.append(source.fd)
        # Netlink sockets refuse; they are closed when they are found empty.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(source.fd)) as sock:
            sock.shutdown(socket.SHUT_RD)

    def _close(self, source: Source, reason: str) -> None:
        with contextlib.suppress(OSError):
            self._epoll.unregister(source.fd)
        os.close(source.fd)
        del self._sources[source.fd]
        reason = source.ending or reason
        source.stream.close(reason, dropped=source.lost)
        report = {"op": "closed", "id": source.place, "stream": f"{source.stream.id:016x}", "reason": reason}
        self._tell({**report, "frames": source.stream.seq, "dropped": source.lost})

    def _tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        # A keeper that is gone is noticed as a hang-up.
        with contextlib.suppress(OSError):
            send(self._control, message, fds)

    # -- what the keeper says ------------------------------------------------------------------------------------------

    def _command(self) -> None:
        try:
            message, fds = receive(self._control)
        except OSError:  # reset: the keeper was killed with messages of ours unread
            message, fds = None, []
        if message is None:
            self._stopping = self._stopping or "the recorder's keeper has died"
            self._epoll.unregister(self._control.fileno())
        elif message.get("op") == "take" and fds:
            self._take(message, fds[0])
        elif message.get("op") == "drop":
            for source in list(self._sources.values()):
                if source.place == message.get("id"):
                    self._give_up(source, str(message.get("reason", "dropped")))
        elif message.get("op") == "note":
            self._own.note(dict(message.get("note", {})))
        elif message.get("op") == "stop":
            self._stopping = "recorder stopped"

    def _take(self, message: dict[str, Any], fd: int) -> None:
        descriptor, place = dict(message["descriptor"]), int(message["id"])
        before = f"{self._landing.stream(place):016x}"
        if before in message.get("before", []):
            descriptor["continues"] = before
        else:
            self._landing.set_lost(place, 0)
        stream = self._spool.open(descriptor, stream=int(message["stream"], 16))
        self._landing.set_stream(place, stream.id)
        lost = self._landing.lost(place)
        self._sources[fd] = Source(place, fd, stream, bool(message.get("gvisor")), lost)
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)


def main() -> int:
    """The receiver as a process of the keeper's."""
    parser = argparse.ArgumentParser(prog="sandtrail-receiver")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--landing-fd", type=int, required=True)
    options = parser.parse_args()
    # These are for the keeper to hear, which then says stop.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # The receiver of a keeper that was killed may still be writing down what had arrived.
    fcntl.lockf(options.landing_fd, fcntl.LOCK_EX)
    with socket.socket(fileno=options.control_fd) as control:
        Receiver(options.home, control, Landing(options.landing_fd)).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
