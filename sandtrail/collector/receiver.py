"""The receiver: from the sockets that the keeper hands it into the spool, and nothing else.

Each socket is one stream; each datagram is one frame, verbatim. Of the bytes it reads only what cannot wait: the drop
counter and the type in the header of a gVisor packet (pkg/sentry/seccheck/sinks/remote/wire). Killed at any moment it
loses nothing: see `landing`.
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
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandtrail import __version__
from sandtrail.collector.control import receive, send
from sandtrail.collector.landing import BATCH, SLOT, Landing, Unfinished
from sandtrail.errors import StoreError
from sandtrail.store.frames import Kind, Stamp, stamp
from sandtrail.store.spool import SpoolWriter, Stream, encode_record, parse_records

__all__ = ["Receiver"]

# container/start, clone, exec, task exit, connect, chroot, bind, accept, listen, ptrace: seal these at once.
_URGENT = frozenset({1, 2, 3, 5, 10, 21, 24, 25, 37, 38})
_HEADER = 8
# How long to let datagrams gather when the last round found few: one wake-up then serves many.
_NAP = 0.001
_DISK_RETRY = 0.2


@dataclass(slots=True)
class _Source:
    """One socket and its stream."""

    ident: int
    fd: int
    stream: Stream
    gvisor: bool
    dropped: int = 0
    lost: int = 0
    heard_ns: int = 0
    ending: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Receiver:
    """Serves the keeper on one end of a socket pair."""

    def __init__(self, home: Path, control: socket.socket, landing: Landing) -> None:
        self._home = home
        self._control = control
        self._landing = landing
        self._sources: dict[int, _Source] = {}
        self._epoll = select.epoll()
        self._epoll.register(control.fileno(), select.EPOLLIN)
        self._stopping = False
        unfinished = landing.unfinished()
        self._spool = SpoolWriter(home, "receiver")
        if unfinished is not None:
            self._finish(unfinished)
        landing.prepare()
        self._own = self._spool.open({"source": "collector", "version": __version__, "pid": os.getpid()})

    def _finish(self, batch: Unfinished) -> None:
        """Write the batch that our predecessor had received when it died, unless it got as far as writing it."""
        written = b""
        with contextlib.suppress(FileNotFoundError), batch.spool.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(batch.offset)
            written = file.read()
            for _, record in parse_records(written):
                if record.stream == batch.stream and record.seq == batch.seq:
                    return
            file.truncate(batch.offset)
        now = stamp()
        self._append(encode_record(Kind.DATA, batch.stream, batch.seq, now, batch.payloads, urgent=True))

    def _append(self, record: bytes) -> None:
        """Write to the spool; while the disk refuses, wait: the sandbox's sentry waits with us."""
        while True:
            try:
                self._spool.append(record)
            except StoreError as error:
                print(f"receiver: {error}; trying again", file=sys.stderr, flush=True)
                time.sleep(_DISK_RETRY)
            else:
                return

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the keeper hangs up or says stop; then drain every socket and close every stream."""
        ready: deque[int] = deque()
        while not self._stopping:
            events = self._epoll.poll(0 if ready else -1)
            for fd, _ in events:
                if fd == self._control.fileno():
                    self._command()
                elif fd not in ready:
                    ready.append(fd)
            full = False
            for _ in range(len(ready)):
                fd = ready.popleft()
                source = self._sources.get(fd)
                # One batch a turn: no sandbox waits for another's flood.
                if source is not None and self._drain(source) == BATCH:
                    ready.append(fd)
                    full = True
            if events and not full:
                time.sleep(_NAP)
        self._shutdown()

    def _drain(self, source: _Source) -> int:
        """Record one batch; returns how many datagrams it had."""
        landing, stream = self._landing, source.stream
        landing.aim(stream.id, stream.seq, self._spool.path, self._spool.size)
        try:
            lengths = landing.receive(source.fd)
        except OSError as error:
            self._socket_error(source, error)
            return 0
        now = stamp()
        count = len(lengths)
        if not count:
            if source.ending is not None:
                self._close(source)
            return 0
        ended = False
        if lengths[-1] == 0 and _hung_up(source.fd):
            ended = True
            while lengths and lengths[-1] == 0:
                lengths.pop()
        if lengths:
            self._record(source, lengths, now)
        landing.done(count)
        if ended:
            source.ending = "end of connection"
            self._close(source)
        return len(lengths)

    def _record(self, source: _Source, lengths: list[int], now: Stamp) -> None:
        landing, stream = self._landing, source.stream
        payloads = [landing.payload(slot, length) for slot, length in enumerate(lengths)]
        urgent = source.gvisor and not _URGENT.isdisjoint(landing.column(2, len(lengths)))
        self._append(encode_record(Kind.DATA, stream.id, stream.seq, now, payloads, urgent=urgent))
        first, stream.seq = stream.seq, stream.seq + len(lengths)
        for slot, length in enumerate(lengths):
            if length > SLOT:
                self._note(source, {"note": "cut", "seq": first + slot, "bytes": length, "kept": SLOT})
        if source.gvisor:
            self._count_drops(source, payloads, first, now)
        source.heard_ns = now.realtime_ns

    def _count_drops(self, source: _Source, payloads: list[memoryview], first: int, now: Stamp) -> None:
        """The counter is cumulative and wraps at 2^32; any change becomes a gap record with its bounds."""
        last = payloads[-1]
        if len(last) >= _HEADER and int.from_bytes(last[4:8], sys.byteorder) == source.dropped:
            return
        for slot, payload in enumerate(payloads):
            if len(payload) < _HEADER:
                continue
            counter = int.from_bytes(payload[4:8], sys.byteorder)
            delta = (counter - source.dropped) % (1 << 32)
            if delta:
                source.dropped = counter
                source.lost += delta
                before = first + slot
                bounds = {"after_seq": before - 1, "before_seq": before, "from_ns": source.heard_ns, "to_ns": now.realtime_ns}
                self._note(source, {"note": "gap", "cause": "dropped by the sentry", "count": delta, **bounds})
                # Killed between these two lines, the successor notes the same gap again: too much, never too little.
                self._landing.set_counter(source.ident, counter)

    def _note(self, source: _Source, note: dict[str, Any]) -> None:
        while True:
            try:
                source.stream.note(note)
            except StoreError:
                time.sleep(_DISK_RETRY)
            else:
                return

    def _socket_error(self, source: _Source, error: OSError) -> None:
        if error.errno == errno.ENOBUFS:
            # Netlink: the kernel had more to say than the buffer held; how much more it does not tell.
            self._note(source, {"note": "gap", "cause": "netlink buffer overrun", "count": None,
                                "after_seq": source.stream.seq - 1, "to_ns": stamp().realtime_ns})  # fmt: skip
            return
        source.ending = f"socket error: {os.strerror(error.errno or 0)}"
        self._close(source)

    def _close(self, source: _Source) -> None:
        with contextlib.suppress(OSError):
            self._epoll.unregister(source.fd)
        os.close(source.fd)
        self._sources.pop(source.fd, None)
        self._finish_stream(source)
        report = {"op": "closed", "id": source.ident, "stream": f"{source.stream.id:016x}", "reason": source.ending}
        self._tell({**report, "frames": source.stream.seq, "dropped": source.lost})

    def _finish_stream(self, source: _Source) -> None:
        while True:
            try:
                source.stream.close(source.ending or "stopped", dropped=source.lost)
            except StoreError:
                time.sleep(_DISK_RETRY)
            else:
                return

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            send(self._control, message)

    # -- what the keeper says ------------------------------------------------------------------------------------------

    def _command(self) -> None:
        message, fds = receive(self._control)
        if message is None:
            self._stopping = True
        elif message.get("op") == "take" and fds:
            self._take(message, fds[0])
        elif message.get("op") == "drop":
            for source in list(self._sources.values()):
                if source.ident == message.get("id"):
                    source.ending = str(message.get("reason", "dropped"))
                    while source.fd in self._sources and self._drain(source):
                        pass
        elif message.get("op") == "note":
            self._own.note(dict(message.get("note", {})))
        elif message.get("op") == "stop":
            self._stopping = True

    def _take(self, message: dict[str, Any], fd: int) -> None:
        descriptor = dict(message["descriptor"])
        stream = self._spool.open(descriptor)
        source = _Source(int(message["id"]), fd, stream, bool(message.get("gvisor")))
        if descriptor.get("continues"):
            source.dropped = self._landing.counter(source.ident)
        else:
            self._landing.set_counter(source.ident, 0)
        self._sources[fd] = source
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)
        self._tell({"op": "taken", "id": source.ident, "stream": f"{stream.id:016x}"})

    def _shutdown(self) -> None:
        for source in list(self._sources.values()):
            source.ending = "recorder stopped"
            while source.fd in self._sources and self._drain(source):
                pass
            if source.fd in self._sources:
                self._close(source)
        self._own.close("stopped")
        self._spool.close()


def _hung_up(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLRDHUP)
    return bool(poller.poll(0))


def main() -> int:
    """The receiver as a process of the keeper's."""
    parser = argparse.ArgumentParser(prog="sandtrail-receiver")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--landing-fd", type=int, required=True)
    options = parser.parse_args()
    # Ctrl-C is for the keeper to hear, which then says stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=options.control_fd) as control:
        Receiver(options.home, control, Landing(options.landing_fd)).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
