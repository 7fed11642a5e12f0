"""The sealer: spools -> segments -> log -> signed checkpoint, and a heartbeat when nothing happens.

What it has done is in the log itself: each segment's manifest says how far every spool file was sealed, so that a
sealer that was killed goes on where the last signed segment ends, and no frame is sealed twice or left out.
"""

from __future__ import annotations

import contextlib
import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from sandtrail import __version__
from sandtrail.store.frames import stamp
from sandtrail.store.keys import load_signer
from sandtrail.store.layout import Layout
from sandtrail.store.log import Log
from sandtrail.store.manifest import Entry, boot_id, encode_entry
from sandtrail.store.position import has_writer, last_segment, spools
from sandtrail.store.reader import LogReader
from sandtrail.store.segments import SegmentBuilder
from sandtrail.store.spool import HEADER_SIZE, MAGIC, MAX_BODY, parse_records

__all__ = ["Sealer"]

SEGMENT_AGE = 0.25
URGENT_AGE = 0.05
CHECKPOINT_EVERY = 1.0
CHECKPOINT_URGENT = 0.25
HEARTBEAT_EVERY = 10.0
TORN_AFTER = 5.0
_READ = 4 << 20


class _Tail:
    """One spool file as the sealer sees it."""

    def __init__(self, path: Path, offset: int) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.taken = offset
        self.sealed = offset
        self.stuck_since: float | None = None

    def size(self) -> int:
        return os.fstat(self.fd).st_size


class Sealer:
    """Seals what is in the spools of one home. One per home (the log's lock sees to it)."""

    def __init__(self, home: Path, *, first: bool = True) -> None:
        """`first`: the recorder is starting, as opposed to this process alone having been restarted.

        Raises StoreError or DamagedError as `Log` does.
        """
        self.home = home
        self._layout = Layout(home).make()
        signer = load_signer(home)
        self._log = Log(home, signer)
        self._tails: dict[str, _Tail] = {}
        self._builder = SegmentBuilder()
        self._opened_at = 0.0
        self._urgent = self._urgent_closed = False
        self._last_stamp: list[int] | None = None
        self._last_publish = self._last_entry = time.monotonic()
        reader = LogReader(home, signer.verifier)
        newest = last_segment(reader)
        self._segment = newest.map["segment"] + 1 if newest else 0
        self._positions: dict[str, int] = dict(newest.map["spool"]) if newest else {}
        self._catch_up()
        self._record_start(next(reader.entries(self._log.size - 1), None) if self._log.size else None, newest, first)

    def _catch_up(self) -> None:
        """Seal what a recorder that is gone has left behind."""
        while self._take():
            if self._builder.full:
                self._close_segment()
        self._close_segment()

    def _record_start(self, last: Entry | None, newest: Entry | None, first: bool) -> None:
        now = stamp()
        facts = {"boot": boot_id(), "at": list(now), "version": __version__, "pid": os.getpid(), "first": first}
        if last is not None and last.kind != "stop" and first:
            # Nobody said goodbye: from the last sign of life until now nothing is known to have been recorded.
            sign = last.map.get("last") or last.map.get("at") or [0, 0, 0]
            if newest is not None and self._segment > newest.map["segment"] + 1 and self._last_stamp:
                sign = max(sign, self._last_stamp)
            gap = {
                "cause": "recorder ended without a stop",
                "from": sign,
                "to": list(now),
                "boot": last.map.get("boot"),
            }
            self._append("gap", gap)
        self._append("start", facts)
        self._publish()

    def _append(self, kind: str, fields: dict[str, Any]) -> None:
        self._log.append(encode_entry(kind, fields))
        self._last_entry = time.monotonic()

    # -- one round -----------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Take what is new, close and sign what is due. Returns whether there was anything new.

        What `step` has signed is durable. After an exception the object must not be used any more; a new one goes on.
        """
        busy = self._take()
        now = time.monotonic()
        if self._builder.full:
            self._close_segment()
        elif self._builder.leaves:
            if now - self._opened_at >= (URGENT_AGE if self._urgent else SEGMENT_AGE):
                self._close_segment()
        elif now - self._last_entry >= HEARTBEAT_EVERY:
            self._append("heartbeat", {"boot": boot_id(), "at": list(stamp())})
        if self._log.size > self._log.published.size:
            wait = CHECKPOINT_URGENT if self._urgent_closed else CHECKPOINT_EVERY
            if now - self._last_publish >= wait:
                self._publish()
        return busy

    def _take(self) -> bool:
        """Move new records from the spools into the open segment."""
        busy = False
        waiting: set[str] = set()
        for path in spools(self.home):
            writer = path.name.split(".", 1)[0]
            if writer in waiting:
                continue
            tail = self._tail(path)
            if tail is None:
                continue
            if self._take_from(tail):
                busy = True
            # A writer's files are taken strictly one after the other: a stream may go on in the next one.
            if path.name in self._tails and tail.taken < tail.size():
                waiting.add(writer)
            if self._builder.full:
                break
        return busy

    def _tail(self, path: Path) -> _Tail | None:
        tail = self._tails.get(path.name)
        if tail is None:
            try:
                tail = self._tails[path.name] = _Tail(path, self._positions.get(path.name, 0))
            except FileNotFoundError:
                return None
        return tail

    def _take_from(self, tail: _Tail) -> bool:
        size = tail.size()
        if size <= tail.taken:
            self._retire(tail)
            return False
        data = os.pread(tail.fd, _READ, tail.taken)
        end = self._add(data)
        if not end and size - tail.taken > len(data):
            data = os.pread(tail.fd, HEADER_SIZE + MAX_BODY, tail.taken)
            end = self._add(data)
        tail.taken += end
        if end:
            tail.stuck_since = None
        else:
            self._stuck(tail, data, size)
        return end > 0

    def _add(self, data: bytes) -> int:
        view = memoryview(data)
        begin = 0
        for end, record in parse_records(data):
            if not self._builder.leaves:
                self._opened_at = time.monotonic()
            self._builder.add(record, bytes(view[begin:end]))
            self._urgent = self._urgent or record.urgent
            self._last_stamp = list(record.when)
            begin = end
            if self._builder.full:
                break
        return begin

    def _stuck(self, tail: _Tail, data: bytes, size: int) -> None:
        """Bytes that are no record: still being written, torn off by a crash, or damaged."""
        now = time.monotonic()
        if tail.stuck_since is None:
            tail.stuck_since = now
        elif now - tail.stuck_since >= TORN_AFTER and size == tail.size():
            skip = _resynchronise(data)
            kept = self.home / "damaged" / f"{tail.path.name}.{tail.taken}"
            kept.parent.mkdir(mode=0o700, exist_ok=True)
            kept.write_bytes(data[:skip])
            gap = {
                "cause": "damaged or torn spool record",
                "spool": tail.path.name,
                "offset": tail.taken,
                "bytes": skip,
                "sha256": sha256(data[:skip]).digest(),
                "from": self._last_stamp or list(stamp()),
                "to": list(stamp()),
                "boot": boot_id(),
            }
            self._close_segment()
            self._append("gap", gap)
            tail.taken += skip
            tail.stuck_since = None

    def _retire(self, tail: _Tail) -> None:
        """Remove a spool file that is sealed to its end, signed for, and has no writer any more."""
        if tail.sealed < tail.taken or self._log.size > self._log.published.size or has_writer(tail.path):
            return
        if tail.size() > tail.taken:
            return
        tail.path.unlink(missing_ok=True)
        os.close(tail.fd)
        del self._tails[tail.path.name]
        self._positions.pop(tail.path.name, None)

    def _close_segment(self) -> None:
        if not self._builder.leaves:
            return
        builder, self._builder = self._builder, SegmentBuilder()
        fields = builder.write(self.home, self._segment)
        for name, tail in self._tails.items():
            self._positions[name] = tail.taken
        self._append("segment", {**fields, "boot": boot_id(), "epoch": 0, "spool": dict(self._positions)})
        for tail in self._tails.values():
            tail.sealed = tail.taken
        self._segment += 1
        self._urgent_closed = self._urgent_closed or self._urgent
        self._urgent = False

    def _publish(self) -> None:
        self._log.publish()
        self._last_publish = time.monotonic()
        self._urgent_closed = False

    def run(self, stopped: Any) -> None:
        """Seal until `stopped()` says so, then seal what is left, log the stop and sign."""
        idle = 0.01
        while not stopped():
            if self.step():
                idle = 0.005
            else:
                idle = min(0.05, idle * 1.5)
                time.sleep(idle)
        self.stop()

    def stop(self) -> None:
        """Seal everything that is in the spools, log the stop, sign, give up the log."""
        self._catch_up()
        self._append("stop", {"boot": boot_id(), "at": list(stamp())})
        self._publish()
        for tail in list(self._tails.values()):
            self._retire(tail)
        for tail in self._tails.values():
            with contextlib.suppress(OSError):
                os.close(tail.fd)
        self._log.close()


def _resynchronise(data: bytes) -> int:
    """How many bytes from the start of `data` to skip until a whole record begins again."""
    at = data.find(MAGIC, 1)
    while at >= 0:
        if next(parse_records(memoryview(data)[at:]), None) is not None:
            return at
        at = data.find(MAGIC, at + 1)
    return len(data)


def main(argv: list[str] | None = None) -> int:
    """The sealer as a process; ends on SIGTERM or SIGINT after sealing what is there."""
    import argparse
    import signal

    parser = argparse.ArgumentParser(prog="sandtrail-sealer")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--first", action="store_true")
    options = parser.parse_args(argv)
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _frame: stop.append(signum))
    with contextlib.suppress(OSError):
        os.nice(5)
    Sealer(options.home, first=options.first).run(lambda: bool(stop))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
