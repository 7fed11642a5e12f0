"""The receiver: from the sockets that the keeper hands it into the spool, and nothing else.

Each socket is one stream; each datagram is one frame, verbatim. Of the bytes it reads only what cannot wait: the drop
counter and the type in the header of a gVisor packet (pkg/sentry/seccheck/sinks/remote/wire). Killed at any moment it
loses nothing and writes nothing twice: see `landing`.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandtrail import __version__
from sandtrail.collector.control import receive, send
from sandtrail.collector.landing import BATCH, SLOT, Landing, Unfinished
from sandtrail.errors import StoreError
from sandtrail.store.frames import Kind, Stamp, stamp
from sandtrail.store.spool import MAX_PAYLOAD, SpoolWriter, Stream, parse_records

__all__ = ["PatientSpool", "Receiver"]

# container/start, clone, exec, task exit, connect, chroot, bind, accept, listen, ptrace: seal these at once.
_URGENT = frozenset({1, 2, 3, 5, 10, 21, 24, 25, 37, 38})
_HEADER = 8
# How long to let datagrams gather when the last round found few: one wake-up then serves many.
_NAP = 0.001
_DISK_RETRY = 0.2
# How long a socket that is being given up may go on delivering what the kernel has not handed over yet.
_LAST_WORDS = 5.0
_ERRORS = 3


class PatientSpool(SpoolWriter):
    """A spool that waits while the disk refuses: the sandbox's sentry then waits with us, and nothing is lost."""

    on_new_file: Callable[[int], None] | None = None
    # The times that nothing could be written, or that what was written has vanished, until somebody has noted them.
    troubles: tuple[dict[str, Any], ...] = ()
    _refused: dict[str, Any] | None = None

    def append(self, record: bytes) -> None:
        """As `append_here`, when that is possible."""
        # Only `make_room` begins a new file, unless this one is gone: a batch and the remarks upon it are in one, where
        # a successor finds them.
        self._patiently(lambda: self.append_here(record))

    def make_room(self) -> None:
        """As any spool's, when that is possible."""
        self._patiently(lambda: SpoolWriter.make_room(self))

    def _patiently(self, act: Callable[[], None]) -> None:
        before = self._fd
        while True:
            try:
                if self.removed():
                    self._leave_removed()
                act()
            except StoreError as error:
                self._wait(error)
            else:
                break
        if self._fd != before and self.on_new_file is not None:
            self.on_new_file(self._fd)
        if self._refused is not None:
            self.troubles += ({**self._refused, "to_ns": time.time_ns()},)
            self._refused = None

    def _leave_removed(self) -> None:
        if self._refused is None or self._refused["note"] != "gap":
            cause = f"the spool {self.path.name} was removed while it was written to"
            self._refused = {"note": "gap", "cause": cause, "count": None, "from_ns": time.time_ns()}
            _say(f"{cause}; what of it was not sealed is lost")
        SpoolWriter._leave_removed(self)

    def _wait(self, error: StoreError) -> None:
        if self._refused is None:
            _say(f"{error}; trying again until it can be written")
            self._refused = {"note": "stalled", "cause": str(error), "from_ns": time.time_ns()}
        time.sleep(_DISK_RETRY)


@dataclass(slots=True)
class _Source:
    """One socket and its stream."""

    place: int
    fd: int
    stream: Stream
    gvisor: bool
    lost: int = 0
    heard_ns: int = 0
    errors: int = 0
    ending: str | None = None
    deadline: float = 0.0


class Receiver:
    """Serves the keeper on one end of a socket pair."""

    def __init__(self, home: Path, control: socket.socket, landing: Landing) -> None:
        self._control = control
        self._landing = landing
        self._sources: dict[int, _Source] = {}
        self._ready: deque[int] = deque()
        self._epoll = select.epoll()
        self._epoll.register(control.fileno(), select.EPOLLIN)
        self._stopping: str | None = None
        vanished = self._finish(landing.unfinished())
        landing.prepare()
        # The keeper holds each spool's lock with us: as long as it does, the sealer leaves the file to our successor.
        self._spool = PatientSpool(home, "receiver")
        self._spool.on_new_file = lambda fd: self._tell({"op": "spool"}, [fd])
        self._tell({"op": "spool"}, [self._spool.fileno()])
        self._own = self._spool.open({"source": "collector", "version": __version__, "pid": os.getpid()})
        if vanished:
            self._own.note({"note": "gap", **vanished})

    def _finish(self, batch: Unfinished | None) -> dict[str, Any] | None:
        """Write the batch that our predecessor had received when it died, unless it got as far as writing it."""
        if batch is None:
            return None
        try:
            spool = PatientSpool.reopen(batch.spool)
        except FileNotFoundError:
            bounds = {"after_seq": batch.seq - 1, "from_ns": batch.when.realtime_ns, "to_ns": stamp().realtime_ns}
            cause = "the spool of an unfinished batch has vanished"
            return {"cause": cause, "count": len(batch.lengths), "stream": f"{batch.stream:016x}", **bounds}
        written = [record for _, record in parse_records(spool.rest(batch.offset)) if record.stream == batch.stream]
        if written:
            stream = Stream(spool, batch.stream, written[-1].seq + len(written[-1].lengths))
        else:
            spool.truncate(batch.offset)
            stream = Stream(spool, batch.stream, batch.seq)
        parts, done = _parts(batch.payloads), sum(record.kind == Kind.DATA for record in written)
        for part in parts[done:]:
            stream.write_many(part, urgent=True, when=batch.when)
        source = _Source(batch.place, -1, stream, batch.gvisor, batch.lost, batch.when.realtime_ns)
        self._remark(source, batch.lengths, batch.payloads, batch.seq, batch.when, written=len(written) - done)
        spool.close()
        return None

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

    def _drain(self, source: _Source) -> int:
        """Record one batch; returns how many datagrams it had."""
        landing, stream = self._landing, source.stream
        self._spool.make_room()
        where = self._spool.path, self._spool.size
        landing.aim(source.place, source.gvisor, stream.id, stream.seq, source.lost, *where, stamp())
        try:
            lengths, ended = landing.receive(source.fd)
        except OSError as error:
            self._socket_error(source, error)
            return 0
        if lengths:
            self._record(source, lengths, stamp())
        landing.done()
        self._confess()
        if ended or (source.ending is not None and not lengths):
            self._close(source, "end of connection")
        elif source.deadline and time.monotonic() > source.deadline:
            cause = "still arriving when the recorder let go of it"
            self._note(source, {"note": "gap", "cause": cause, "count": None, "after_seq": stream.seq - 1})
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

    def _record(self, source: _Source, lengths: list[int], now: Stamp) -> None:
        landing, stream = self._landing, source.stream
        payloads = [landing.payload(slot, length) for slot, length in enumerate(lengths)]
        urgent = source.gvisor and not _URGENT.isdisjoint(landing.column(2, len(lengths)))
        first = stream.seq
        for part in _parts(payloads):
            stream.write_many(part, urgent=urgent, when=now)
        self._remark(source, lengths, payloads, first, now)
        source.heard_ns = now.realtime_ns
        source.errors = 0

    def _remark(
        self,
        source: _Source,
        lengths: list[int],
        payloads: Sequence[memoryview],
        first: int,
        now: Stamp,
        written: int = 0,
    ) -> None:
        """Note what the batch does not hold: the rest of cut payloads, messages that the sentry had dropped.

        `written`: how many of these notes a predecessor got as far as writing; they come out the same again.
        """
        lost = source.lost
        notes: list[dict[str, Any]] = []
        if max(lengths) > SLOT:
            cut = [(slot, length) for slot, length in enumerate(lengths) if length > SLOT]
            notes = [{"note": "cut", "seq": first + slot, "bytes": length, "kept": SLOT} for slot, length in cut]
        if source.gvisor:
            notes += _gaps(source, payloads, first, now)
        for note in notes[written:]:
            source.stream.note(note)
        if source.lost != lost:
            self._landing.set_lost(source.place, source.lost)

    def _note(self, source: _Source, note: dict[str, Any]) -> None:
        source.stream.note({**note, "from_ns": source.heard_ns, "to_ns": stamp().realtime_ns})

    def _socket_error(self, source: _Source, error: OSError) -> None:
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

    def _give_up(self, source: _Source, reason: str) -> None:
        """Let no more arrive, record what has, and close."""
        source.ending = source.ending or reason
        source.deadline = time.monotonic() + _LAST_WORDS
        if source.fd not in self._ready:
            self._ready.append(source.fd)
        # Netlink sockets refuse; they are closed when they are found empty.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(source.fd)) as sock:
            sock.shutdown(socket.SHUT_RD)

    def _close(self, source: _Source, reason: str) -> None:
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
        self._sources[fd] = _Source(place, fd, stream, bool(message.get("gvisor")), lost)
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)


def _parts(payloads: list[memoryview]) -> list[list[memoryview]]:
    """A batch's payloads in as few records as can hold them: one, but for a flood of the largest."""
    if sum(map(len, payloads)) <= MAX_PAYLOAD:
        return [payloads]
    at_once = MAX_PAYLOAD // SLOT
    return [payloads[at : at + at_once] for at in range(0, len(payloads), at_once)]


def _gaps(source: _Source, payloads: Sequence[memoryview], first: int, now: Stamp) -> list[dict[str, Any]]:
    """The drop counter is cumulative and wraps at 2^32; any change becomes a gap with its bounds."""
    last = payloads[-1]
    if len(last) >= _HEADER and int.from_bytes(last[4:8], sys.byteorder) == source.lost & 0xFFFFFFFF:
        return []
    gaps = []
    for seq, payload in enumerate(payloads, first):
        if len(payload) < _HEADER:
            continue
        delta = (int.from_bytes(payload[4:8], sys.byteorder) - source.lost) % (1 << 32)
        if delta:
            source.lost += delta
            gap = {"note": "gap", "cause": "dropped by the sentry", "count": delta, "after_seq": seq - 1}
            gaps.append({**gap, "before_seq": seq, "from_ns": source.heard_ns, "to_ns": now.realtime_ns})
    return gaps


def _say(text: str) -> None:
    print(f"receiver: {text}", file=sys.stderr, flush=True)


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
