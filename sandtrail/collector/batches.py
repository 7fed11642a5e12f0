"""Batches of datagrams: from a socket through the landing into the spool, so that a receiver may be killed anywhere.

A batch is one record (a flood of the largest datagrams more), and behind it stand remarks upon what it does not hold.
A successor finds in the landing what was received and in the spool how much of it was written, and writes the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sandtrail.collector.landing import SLOT, Landing, Unfinished
from sandtrail.collector.patience import PatientSpool
from sandtrail.store.frames import Kind, Stamp, stamp
from sandtrail.store.spool import MAX_PAYLOAD, Stream, parse_records

__all__ = ["Batches", "Source", "finish"]

# container/start, clone, exec, task exit, connect, chroot, bind, accept, listen, ptrace: seal these at once.
_URGENT = frozenset({1, 2, 3, 5, 10, 21, 24, 25, 37, 38})
_HEADER = 8


@dataclass(slots=True)
class Source:
    """One socket and its stream."""

    place: int
    fd: int
    stream: Stream
    gvisor: bool
    # Messages that the other side is known to have dropped; of gVisor's alone.
    lost: int = 0
    heard_ns: int = 0
    errors: int = 0
    # Why nothing more of it is wanted, and (time.monotonic) until when what has arrived is still recorded.
    ending: str | None = None
    deadline: float = 0.0


class Batches:
    """One receiver's: `receive`, then `record` if anything came, then `done`."""

    def __init__(self, landing: Landing, spool: PatientSpool) -> None:
        self._landing = landing
        self._spool = spool

    def receive(self, source: Source) -> tuple[list[int], bool]:
        """Receive what is there as `Landing.receive` does, errors included; whose it is, a successor can tell."""
        stream = source.stream
        self._spool.make_room()
        where = self._spool.path, self._spool.size
        self._landing.aim(source.place, source.gvisor, stream.id, stream.seq, source.lost, *where, stamp())
        return self._landing.receive(source.fd)

    def record(self, source: Source, lengths: list[int]) -> None:
        """Write down the batch that was received, which has datagrams of these lengths."""
        landing, stream, now, lost = self._landing, source.stream, stamp(), source.lost
        payloads = [landing.payload(slot, length) for slot, length in enumerate(lengths)]
        urgent = source.gvisor and not _URGENT.isdisjoint(landing.column(2, len(lengths)))
        first = stream.seq
        for part in _parts(payloads):
            stream.write_many(part, urgent=urgent, when=now)
        for note in _remarks(source, lengths, payloads, first, now):
            stream.note(note)
        if source.lost != lost:
            landing.set_lost(source.place, source.lost)
        source.heard_ns = now.realtime_ns
        source.errors = 0

    def done(self) -> None:
        """The batch is in the spool."""
        self._landing.done()


def finish(landing: Landing, batch: Unfinished) -> dict[str, Any] | None:
    """Write the batch that a receiver had received when it died, as far as it had not written it.

    Returns the gap to note where the spool that it belongs into has vanished, else None.
    """
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
    source = Source(batch.place, -1, stream, batch.gvisor, batch.lost, batch.when.realtime_ns)
    # The remarks come out the same again; some may be there.
    for note in _remarks(source, batch.lengths, batch.payloads, batch.seq, batch.when)[len(written) - done :]:
        stream.note(note)
    if source.lost != batch.lost:
        landing.set_lost(batch.place, source.lost)
    spool.close()
    return None


def _parts(payloads: list[memoryview]) -> list[list[memoryview]]:
    """A batch's payloads in as few records as can hold them: one, but for a flood of the largest."""
    if sum(map(len, payloads)) <= MAX_PAYLOAD:
        return [payloads]
    at_once = MAX_PAYLOAD // SLOT
    return [payloads[at : at + at_once] for at in range(0, len(payloads), at_once)]


def _remarks(
    source: Source, lengths: list[int], payloads: Sequence[memoryview], first: int, now: Stamp
) -> list[dict[str, Any]]:
    """Notes of what the batch does not hold: the rest of cut payloads, messages that the sentry had dropped."""
    notes: list[dict[str, Any]] = []
    if max(lengths) > SLOT:
        cut = [(slot, length) for slot, length in enumerate(lengths) if length > SLOT]
        notes = [{"note": "cut", "seq": first + slot, "bytes": length, "kept": SLOT} for slot, length in cut]
    return notes + _gaps(source, payloads, first, now) if source.gvisor else notes


def _gaps(source: Source, payloads: Sequence[memoryview], first: int, now: Stamp) -> list[dict[str, Any]]:
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
