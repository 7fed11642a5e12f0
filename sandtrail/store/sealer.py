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
from pathlib import Path
from typing import Any

from sandtrail import __version__
from sandtrail.errors import DamagedError, NotFoundError, SandtrailError, UsageError
from sandtrail.settings import load_settings
from sandtrail.store.acts import Orders
from sandtrail.store.clocks import ClockWatch, read_clocks
from sandtrail.store.custody import carry_out
from sandtrail.store.datakeys import DataKeys
from sandtrail.store.epochs import NodeSigner
from sandtrail.store.frames import stamp
from sandtrail.store.heap import keep_freed_memory
from sandtrail.store.intake import Intake
from sandtrail.store.kept import keep
from sandtrail.store.keys import node_signer
from sandtrail.store.layout import Layout, sweep, sync_file
from sandtrail.store.log import Log
from sandtrail.store.manifest import Entry, boot_id, encode_entry
from sandtrail.store.position import has_writer, last_positions, last_segment, spools
from sandtrail.store.reader import LogReader
from sandtrail.store.round import Owners, Round
from sandtrail.store.segments import stored_segments
from sandtrail.store.spool import Record

__all__ = ["Sealer"]

SEGMENT_AGE = 0.25
URGENT_AGE = 0.1
CHECKPOINT_EVERY = 1.0
CHECKPOINT_URGENT = 0.25
HEARTBEAT_EVERY = 10.0
DUTY_EVERY = 0.1
EPOCH_AGE = 24 * 3600.0
_PATIENCE = 2.0


class Sealer:
    """Seals what is in the spools of one home. One per home (the log's lock sees to it)."""

    def __init__(
        self, home: Path, *, run: str | None = None, signer: NodeSigner | None = None, epoch_age: float = EPOCH_AGE
    ) -> None:
        """`run` names one run of the recorder: a sealer that finds its own run in the log was started again in the
        middle of it, any other one begins a new run, and records a gap if the last run did not say goodbye.
        `signer`: by default `node_signer(home)`. `epoch_age`: seconds after which the signing key is replaced.

        Raises StoreError or DamagedError as `Log` does, OSError as the disk does.
        """
        self.home = home
        self._layout = Layout(home).make()
        self._signer = node_signer(home) if signer is None else signer
        self._epoch_age = epoch_age
        self._log = Log(home, self._signer)
        self._facts: dict[str, Any] = {"run": run or os.urandom(8).hex(), "boot": boot_id()}
        self._round = Round()
        self._full = self._urgent_closed = False
        self._last_stamp: list[int] | None = None
        self._last_publish = self._last_entry = self._next_duty = time.monotonic()
        self.reader = LogReader(home, self._signer.verifier)
        self.keys = DataKeys(home)
        self.owners = Owners(self.keys, self.reader)
        self._orders = Orders(home)
        self._clocks = ClockWatch()
        newest = last_segment(self.reader)
        self._segment = newest.map["segment"] + 1 if newest else 0
        self._tidy()
        left = {path.name for path in spools(home)}
        positions = {name: at for name, at in last_positions(self.reader).items() if name in left}
        self._intake = Intake(home, self, positions)
        last = next(self.reader.entries(self._log.size - 1), None) if self._log.size else None
        self._take_up_epoch(last)
        # What writers that are gone have left belongs before our start; what living ones write, behind it.
        self._catch_up(lambda path: not has_writer(path))
        self._record_start(last)
        self._obey()

    def _tidy(self) -> None:
        """Remove what a sealer that was killed had written and not signed for; its frames are still in the spools, and
        we may need fewer segments for them."""
        sweep(self._layout.damaged)
        sweep(self._layout.segment(self._segment).parent)
        # The highest first: should we be killed here, what is left is still what comes next.
        for number, path in sorted(stored_segments(self.home).items(), reverse=True):
            if number < self._segment:
                break
            path.unlink()

    # -- epochs, acts --------------------------------------------------------------------------------------------------

    def _take_up_epoch(self, last: Entry | None) -> None:
        """Sign as the epoch that the newest entry belongs to; a log without one begins its first."""
        if last is None or last.map["v"] == 1:
            self.begin_epoch()
        else:
            self._facts["epoch"] = last.map["epoch"]
            self._signer.enter(last.map["epoch"])

    def begin_epoch(self) -> int:
        """Replace the signing key by one that it certifies, and erase it; returns the new epoch's number."""
        self.settle()
        epoch, certificate = self._signer.next(self._log.size, self._log.root())
        self._facts["epoch"] = epoch
        self._append("epoch", at=list(stamp()), certificate=certificate)
        self._signer.begin()
        self._publish()
        self._signer.erase_old()
        return epoch

    @property
    def sealed(self) -> dict[str, int]:
        """How far each spool file has been sealed."""
        return dict(self._intake.positions)

    def settle(self) -> None:
        """Close what is open and sign for it."""
        self._close_round()
        self._publish()

    def record(self, kind: str, **fields: Any) -> int:
        """Sign an entry at once; returns its index."""
        index = self._append(kind, **fields)
        self._publish()
        return index

    def _look_at_the_clock(self) -> None:
        change = self._clocks.see(read_clocks(), self._facts["boot"])
        if change is not None:
            # What was received before it belongs before it.
            self._close_round()
            steps = {"step_ns": change.step_ns, "suspended_ns": change.suspended_ns}
            self._append("clock", at=list(change.at), before=list(change.before), **steps)

    def _obey(self) -> None:
        for path, act in self._orders.waiting():
            try:
                result = carry_out(self, act)
            except (UsageError, NotFoundError, DamagedError) as error:
                result = {"error": str(error)}
            self._orders.done(path, result)

    def _catch_up(self, wanted: Callable[[Path], bool], seconds: float = float("inf")) -> None:
        """Seal what is in the spools now."""
        deadline = time.monotonic() + seconds
        while self._intake.take(wanted) and time.monotonic() < deadline:
            if self._full:
                self._close_round()
                # Signed files can be removed, which matters where the disk has become full.
                self._publish()
        self._close_round()

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

    def _append(self, kind: str, **fields: Any) -> int:
        self._last_entry = time.monotonic()
        return self._log.append(encode_entry(kind, {**self._facts, **fields}))

    # -- one round -----------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Take what is new, close and sign what is due. Returns whether there was anything new.

        What `step` has signed is durable. After an exception the object must not be used any more; a new one goes on.
        """
        busy = self._intake.take()
        now = time.monotonic()
        if self._full:
            self._close_round()
        elif self._round:
            if now - self._round.opened_at >= (URGENT_AGE if self._round.urgent else SEGMENT_AGE):
                self._close_round()
        elif now - self._last_entry >= HEARTBEAT_EVERY:
            self._append("heartbeat", at=list(stamp()))
        if self._log.size > self._log.published.size:
            wait = CHECKPOINT_URGENT if self._urgent_closed else CHECKPOINT_EVERY
            if now - self._last_publish >= wait:
                self._publish()
        if now >= self._next_duty:
            self._next_duty = now + DUTY_EVERY
            self._look_at_the_clock()
            self._obey()
            if self._log.size == self._log.published.size:
                self._intake.retire()
            if self._signer.age() >= self._epoch_age:
                self.begin_epoch()
        return busy

    def take(self, record: Record, data: memoryview) -> bool:
        """Put a record into the segment of its data key; returns whether the round is full."""
        self._full = self._round.add(self.owners.key(record), record, data)
        self._last_stamp = list(record.when)
        return self._full

    def skip(self, spool: str, offset: int, data: bytes) -> None:
        """Keep bytes that are no record as they are, and record that they can't be sealed as frames."""
        # Should the power go before the gap is signed for, the spool must still say whose leftover the kept bytes are.
        sync_file(self._layout.spool / spool)
        kept = keep(self.home, self.keys, spool, offset, data)
        self._close_round()
        now = list(stamp())
        gap = {"cause": "damaged or torn spool record", **kept, "from": self._last_stamp or now, "to": now}
        self._append("gap", **gap, spool=self._intake.mark())

    def _close_round(self) -> None:
        if not self._round:
            return
        closed, self._round, self._full = self._round, Round(), False
        manifests = closed.write(self.home, self._segment)
        for fields in manifests[:-1]:
            self._append("segment", **fields)
        # One checkpoint covers all of a round: the last of it speaks for the others.
        self._append("segment", **manifests[-1], spool=self._intake.mark())
        self._segment += len(manifests)
        self._urgent_closed = self._urgent_closed or closed.urgent

    def _publish(self) -> None:
        self._log.publish()
        self._intake.retire()
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
        self._close()

    def leave(self, patience: float = 0.0) -> None:
        """As `stop`, but without a word: the recorder has died, and its successor will say so.

        Spool files stay, and bytes that are no record in them: the next receiver finishes what the last one had begun.
        """
        self._intake.leaving = True
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
        self._intake.close()
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
    keep_freed_memory()
    try:
        sealer = Sealer(options.home, run=options.run, epoch_age=load_settings().epoch_hours * 3600)
        sealer.run(lambda: bool(keeper.poll(0) if options.control_fd is not None else told))
        if options.control_fd is None or _said_stop(options.control_fd):
            sealer.stop(_PATIENCE)
        else:
            sealer.leave(_PATIENCE)
    except (OSError, SandtrailError) as error:
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
