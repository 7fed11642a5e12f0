"""The sealer: spools -> segments -> log -> signed checkpoint, and a heartbeat when nothing happens.

What it has done is in the log itself: each segment's manifest says how far every spool file was sealed, so that a
sealer that was killed goes on where the last signed segment ends, and no frame is sealed twice or left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from sandtrail import __version__
from sandtrail.errors import StoreError
from sandtrail.store.frames import stamp
from sandtrail.store.keys import load_signer
from sandtrail.store.layout import Layout, publish, sweep
from sandtrail.store.log import Log
from sandtrail.store.manifest import Entry, boot_id, encode_entry
from sandtrail.store.position import has_writer, last_positions, last_segment, spools
from sandtrail.store.reader import LogReader
from sandtrail.store.segments import SegmentBuilder
from sandtrail.store.spool import parse_records
from sandtrail.store.tail import Tail

__all__ = ["Sealer"]

SEGMENT_AGE = 0.25
URGENT_AGE = 0.05
CHECKPOINT_EVERY = 1.0
CHECKPOINT_URGENT = 0.25
HEARTBEAT_EVERY = 10.0
_PATIENCE = 2.0


class Sealer:
    """Seals what is in the spools of one home. One per home (the log's lock sees to it)."""

    def __init__(self, home: Path, *, run: str | None = None) -> None:
        """`run` names one run of the recorder: a sealer that finds its own run in the log was started again in the
        middle of it, any other one begins a new run, and records a gap if the last run did not say goodbye.

        Raises StoreError or DamagedError as `Log` does, OSError as the disk does.
        """
        self.home = home
        self._layout = Layout(home).make()
        signer = load_signer(home)
        self._log = Log(home, signer)
        self._facts = {"run": run or os.urandom(8).hex(), "boot": boot_id()}
        self._tails: dict[str, Tail] = {}
        self._builder = SegmentBuilder()
        self._opened_at = 0.0
        self._urgent = self._urgent_closed = self._leaving = False
        self._last_stamp: list[int] | None = None
        self._last_publish = self._last_entry = time.monotonic()
        reader = LogReader(home, signer.verifier)
        newest = last_segment(reader)
        self._segment = newest.map["segment"] + 1 if newest else 0
        self._tidy()
        left = {path.name for path in spools(home)}
        self._positions = {name: at for name, at in last_positions(reader).items() if name in left}
        last = next(reader.entries(self._log.size - 1), None) if self._log.size else None
        # What writers that are gone have left belongs before our start; what living ones write, behind it.
        self._catch_up(lambda path: not has_writer(path))
        self._record_start(last)

    def _tidy(self) -> None:
        """Remove what a sealer that was killed had written and not signed for; its frames are still in the spools, and
        we may need fewer segments for them."""
        number = self._segment
        sweep(self._layout.segment(number).parent)
        while (ahead := self._layout.segment(number)).exists():
            ahead.unlink()
            number += 1

    def _catch_up(self, wanted: Callable[[Path], bool], seconds: float = float("inf")) -> None:
        """Seal what is in the spools now."""
        deadline = time.monotonic() + seconds
        while self._take(wanted) and time.monotonic() < deadline:
            if self._builder.full:
                self._close_segment()
                # Signed files can be removed, which matters where the disk has become full.
                self._publish()
        self._close_segment()

    def _record_start(self, last: Entry | None) -> None:
        now = list(stamp())
        first = last is None or last.map.get("run") != self._facts["run"]
        stopped = last is None or last.kind == "stop"
        if first and (not stopped or (last is None and self._last_stamp)):
            # Nobody said goodbye: from the last sign of life until now nothing is known to have been recorded.
            signs = [last.map.get(key) for key in ("last", "at", "to")] if last else []
            sign = max([*filter(None, signs), self._last_stamp or [0, 0, 0]])
            boot = last.map.get("boot") if last else None
            self._append("gap", cause="recorder ended without a stop", to=now, **{"from": sign, "from_boot": boot})
        self._append("start", at=now, version=__version__, pid=os.getpid(), first=first)
        self._publish()

    def _append(self, kind: str, **fields: Any) -> None:
        self._log.append(encode_entry(kind, {**self._facts, **fields}))
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
            self._append("heartbeat", at=list(stamp()))
        if self._log.size > self._log.published.size:
            wait = CHECKPOINT_URGENT if self._urgent_closed else CHECKPOINT_EVERY
            if now - self._last_publish >= wait:
                self._publish()
        return busy

    def _take(self, wanted: Callable[[Path], bool] = lambda _path: True) -> bool:
        """Move new records from the spools into the open segment."""
        busy = False
        waiting: set[str] = set()
        for path in spools(self.home):
            writer = path.name.split(".", 1)[0]
            if writer in waiting or not wanted(path):
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

    def _tail(self, path: Path) -> Tail | None:
        tail = self._tails.get(path.name)
        if tail is None:
            try:
                tail = self._tails[path.name] = Tail(path, self._positions.get(path.name, 0))
            except FileNotFoundError:
                return None
        return tail

    def _take_from(self, tail: Tail) -> bool:
        size, before = tail.size(), tail.taken
        if size <= before:
            self._retire(tail)
            return False
        data = tail.read()
        end = self._add(data)
        if not end and size - before > len(data):
            data = tail.read(whole_record=True)
            end = self._add(data)
        if end:
            tail.take(end)
        elif not self._leaving and (skip := tail.unreadable(data, size)):
            self._skip(tail, data[:skip])
        return tail.taken > before

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

    def _skip(self, tail: Tail, data: bytes) -> None:
        """Keep bytes that are no record as they are, and record that they can't be sealed as frames."""
        publish(self._layout.damaged / f"{tail.path.name}.{tail.taken}", data)
        self._close_segment()
        now = list(stamp())
        gap = {
            "cause": "damaged or torn spool record",
            "file": tail.path.name,
            "offset": tail.taken,
            "bytes": len(data),
            "sha256": sha256(data).digest(),
            "from": self._last_stamp or now,
            "to": now,
        }
        tail.take(len(data))
        self._append("gap", **gap, spool=self._mark())

    def _mark(self) -> dict[str, int]:
        """Count everything taken as sealed: the entry that is appended next commits to it. Returns the positions."""
        for name, tail in self._tails.items():
            tail.sealed = self._positions[name] = tail.taken
        return dict(self._positions)

    def _retire(self, tail: Tail) -> None:
        """Remove a spool file that is sealed to its end, signed for, and has no writer any more."""
        if (
            self._leaving
            or tail.sealed < tail.taken
            or self._log.size > self._log.published.size
            or has_writer(tail.path)
        ):
            return
        if tail.size() > tail.taken:
            return
        tail.path.unlink(missing_ok=True)
        tail.close()
        del self._tails[tail.path.name]
        self._positions.pop(tail.path.name, None)

    def _close_segment(self) -> None:
        if not self._builder.leaves:
            return
        builder, self._builder = self._builder, SegmentBuilder()
        fields = builder.write(self.home, self._segment)
        self._append("segment", **fields, epoch=0, spool=self._mark())
        self._segment += 1
        self._urgent_closed = self._urgent_closed or self._urgent
        self._urgent = False

    def _publish(self) -> None:
        self._log.publish()
        self._last_publish = time.monotonic()
        self._urgent_closed = False

    def run(self, stopped: Callable[[], bool]) -> None:
        """Seal until `stopped()` says so."""
        idle = 0.01
        while not stopped():
            if self.step():
                idle = 0.005
            else:
                idle = min(0.05, idle * 1.5)
                time.sleep(idle)

    def stop(self, patience: float = 0.0) -> None:
        """Seal everything that is in the spools, log the stop, sign, give up the log.

        Writers that are ending too get `patience` seconds to do so.
        """
        self._await_writers(patience)
        self._catch_up(lambda _path: True, seconds=30)
        self._append("stop", at=list(stamp()))
        self._publish()
        for tail in list(self._tails.values()):
            self._retire(tail)
        self._close()

    def leave(self, patience: float = 0.0) -> None:
        """As `stop`, but without a word: the recorder has died, and its successor will say so.

        Spool files stay, and bytes that are no record in them: the next receiver finishes what the last one had begun.
        """
        self._leaving = True
        self._await_writers(patience)
        self._catch_up(lambda _path: True, seconds=30)
        self._publish()
        self._close()

    def _await_writers(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and any(map(has_writer, spools(self.home))):
            if not self.step():
                time.sleep(0.01)

    def _close(self) -> None:
        for tail in self._tails.values():
            tail.close()
        self._log.close()


def main(argv: list[str] | None = None) -> int:
    """The sealer as a process.

    Under a keeper (`--control-fd`) it ends when the keeper says so or hangs up, which means that it was killed; SIGTERM
    and SIGINT are then the keeper's to hear, so that writers can end first. Without a keeper it ends on these signals.
    """
    parser = argparse.ArgumentParser(prog="sandtrail-sealer")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--run")
    parser.add_argument("--control-fd", type=int)
    options = parser.parse_args(argv)
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _frame: told.append(signum))
    keeper = select.poll()
    if options.control_fd is not None:
        keeper.register(options.control_fd, select.POLLIN)
    with contextlib.suppress(OSError):
        os.nice(5)
    try:
        sealer = Sealer(options.home, run=options.run)
        sealer.run(lambda: bool(keeper.poll(0) if options.control_fd is not None else told))
        if options.control_fd is None or _said_stop(options.control_fd):
            sealer.stop(_PATIENCE)
        else:
            sealer.leave(_PATIENCE)
    except (OSError, StoreError) as error:
        # What was signed is on disk; the keeper starts us again, and we go on behind it.
        print(f"sealer: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _said_stop(fd: int) -> bool:
    try:
        return os.read(fd, 1) != b""
    except OSError:
        return False


if __name__ == "__main__":
    raise SystemExit(main())
