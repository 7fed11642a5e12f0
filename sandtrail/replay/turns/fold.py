"""The events of a session taken in order of time and put under the decisions that led to them.

Who did it decides, in this order:

1. A process whose argv is a decided command belongs to that decision, and so do its descendants, whatever the time: a
   process left behind in turn 3 that acts during turn 5 belongs to turn 3.
2. A process that receives decisions (it holds the connection to the model) acts for the last one that it received.
3. A helper that the agent started before any decision, or a shell that reads its lines from the agent, acts for the
   last decision that the agent received.
4. What began before the first decision belongs to the operator's command, turn 0.

Whatever else there is stays unexplained. Every step is causal: it looks at nothing that comes later, so events may be
folded in as they arrive.
"""

from __future__ import annotations

from collections.abc import Iterable
from errno import EBADF, EEXIST, EINTR, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, ENXIO
from os import O_DIRECTORY
from typing import Any

from sandtrail.replay.decode.others import OTHERS
from sandtrail.replay.egress import read_ways
from sandtrail.replay.events import Event
from sandtrail.replay.turns.buckets import Bucket, Edge, Group
from sandtrail.replay.turns.entries import Entry, entries
from sandtrail.replay.turns.exchanges import Frames
from sandtrail.replay.turns.facts import CHANGES, argv_of, details, whole
from sandtrail.replay.turns.lineage import TOLERANCE_NS, Lineage
from sandtrail.replay.turns.modelturns import Turn
from sandtrail.replay.turns.named import credential, ordinary_read, ordinary_write, persistence
from sandtrail.replay.turns.others import Others
from sandtrail.replay.turns.process import Process, Program
from sandtrail.replay.turns.stdio import Stdio
from sandtrail.replay.turns.telemetry import Telemetry
from sandtrail.replay.turns.traffic import Traffic
from sandtrail.replay.turns.web import Web

__all__ = ["Fold"]

MAX_SIGNALS = 40
BEFORE_NS = 1_000_000_000
"""What started this much before the first event was there before the recording."""
MAX_NOTABLE = 12
IDLE = frozenset({ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EBADF, EINTR, EINVAL, ENXIO})
"""Failures that say what is there or not; a refusal (EACCES, EPERM, EROFS) is another matter."""
_STRENGTH = {"file.open": 1, "file.write": 2, "file.create": 3}


class Fold:
    """The state of a session after the events so far.

    `frames` gives the gateway's frames, from which model calls are read.
    """

    def __init__(self, frames: Frames) -> None:
        self.turns: list[Turn] = [Turn(0)]
        self.unexplained: dict[object, Bucket] = {}
        self.unexplained_events = 0
        self.gaps: list[tuple[Event, Process | None]] = []
        self.lineage = Lineage(self.turns)
        self.events = 0
        self.first_ns = 0
        self.last_ns = 0
        self.telemetry = Telemetry()
        self.traffic = Traffic(self)
        self.web = Web(self, self.traffic, frames)
        self.stdio = Stdio(self)
        self.others = Others(self)

    def feed(self, events: Iterable[Event]) -> None:
        """Take events, each batch in any order, batches in about the order of time."""
        self.feed_entries(entries(events))

    def feed_entries(self, steps: Iterable[Entry]) -> None:
        """Take events as steps that are in order already."""
        for at_ns, _, fact, phase in steps:
            self.events += phase != "answer"
            self.first_ns = self.first_ns or at_ns
            self.last_ns = max(self.last_ns, at_ns)
            kind = fact.kind
            if fact.source in OTHERS and kind != "gap":
                self.others.take(fact, phase)
            elif kind == "file.open":
                self._open(fact)
            elif kind in CHANGES:
                self._change(fact)
            elif kind.startswith("process."):
                self._process(fact)
            elif kind.startswith("net."):
                self.traffic.take(fact)
            elif kind.startswith("http."):
                self.web.take(fact, phase)
            elif kind == "mcp.message":
                self.stdio.take(fact)
            elif kind == "gap":
                self._gap(fact)
            elif kind.startswith("lifecycle."):
                self._lifecycle(fact)
            elif kind.startswith("claim."):
                self.telemetry.take(fact)
                self.count(None, fact)
            elif fact.pid:
                self.count(self.who(fact), fact)
            else:
                self.count(None, fact)

    # processes

    def who(self, fact: Event) -> Process:
        """The process that an event is of, made where it was not met before."""
        process = self.lineage.processes.get(fact.container, fact.pid, fact.pid_start_ns)
        if fact.process:
            process.comm = fact.process
        if process.known or process.parent is not None:
            return process
        if fact.pid == 1:
            self.lineage.begin(process, "the operator's command")
        elif fact.pid_start_ns and fact.pid_start_ns < self.first_ns - BEFORE_NS:
            self.lineage.begin(process, "it ran before the recording began", 0.5)
        elif fact.ppid:
            # Its clone was not seen; a later runsc says at least who the parent is.
            parent = self.lineage.processes.find(fact.container, fact.ppid, 0)
            if parent is not None and parent is not process:
                self.lineage.clone(parent, process.key)
        return process

    def _process(self, fact: Event) -> None:
        if fact.kind == "process.exec":
            self._exec(fact)
            return
        process = self.who(fact)
        if fact.kind == "process.clone":
            detail = details(fact)
            pid, start = whole(detail.get("child_pid")), whole(detail.get("child_start_ns"))
            if pid and pid != process.pid and not detail.get("thread"):
                self.lineage.clone(process, (fact.container, pid, start))
        elif fact.kind == "process.exit" and not details(fact).get("thread"):
            self._exit(process, fact)
        self.count(process, fact)

    def _exit(self, process: Process, fact: Event) -> None:
        process.ended_ns = max(process.ended_ns or 0, fact.time_ns)
        process.status = fact.result if process.status is None else process.status
        if process.programs:
            process.programs[-1].end_ns, process.programs[-1].status = process.ended_ns, process.status

    def _exec(self, fact: Event) -> None:
        process = self.who(fact)
        if fact.errno or (fact.result or 0) < 0:
            self.count(process, fact)  # a shell that looks along its PATH
            return
        detail = details(fact)
        program = self.lineage.exec(
            process,
            fact.ref,
            fact.n,
            fact.time_ns,
            argv_of(detail),
            fact.exe or fact.object,
            fact.cwd or _cwd(process),
        )
        group = self.place(process, program, ("exec", fact.ref), fact)
        group.program = program
        if detail.get("hidden"):
            group.flags.add("hidden")

    def _lifecycle(self, fact: Event) -> None:
        if not fact.pid:
            self.count(None, fact)
            return
        process = self.who(fact)
        if fact.kind == "lifecycle.container_start":
            self.lineage.begin(process, "the operator's command")
        elif fact.kind == "lifecycle.processes":
            self.lineage.begin(process, "it ran before the recording began", 0.5)
        self.count(process, fact)

    # files

    def _open(self, fact: Event) -> None:
        process = self.who(fact)
        done = fact.result is None or fact.result >= 0
        if done and ('"write":true' in fact.detail or '"write": true' in fact.detail):
            self._change(fact)
            return
        secret = credential(fact.object, done) if fact.object else None
        if secret is not None:
            group = self.place(process, process.program, ("read", fact.object, fact.errno), fact)
            group.flags.add("credential")
            group.summary = secret
            self.signal(process, "credential", f"{secret}, {fact.object}", fact.ref)
            return
        self.count(process, fact, read=True)
        if done and not ordinary_read(fact.object) and not whole(details(fact).get("flags")) & O_DIRECTORY:
            notable = self.bucket(*self.lineage.place(process, fact.time_ns), process, process.program)[1].notable
            if len(notable) < MAX_NOTABLE and fact.object not in notable:
                notable.append(fact.object)

    def _change(self, fact: Event) -> None:
        process = self.who(fact)
        path = fact.object
        if (fact.kind == "file.write" and not path.startswith("/")) or _device(path) or fact.errno in IDLE:
            self.count(process, fact)  # a pipe, a socket or a terminal; or nothing was there to be changed
            return
        program = process.program
        # Creating a file, opening it to write and writing to it are one change of it.
        what = "content" if path and fact.kind in ("file.create", "file.open", "file.write") else fact.kind
        group = self.place(process, program, (what, path, bool(fact.errno)), fact)
        if _STRENGTH.get(fact.kind, 0) > _STRENGTH.get(group.kind, 0):
            group.kind = fact.kind
        if fact.errno or not path:
            return
        if persistence(path):
            self.signal(process, "persistence", path, fact.ref)
        elif program is not None and not program.named:
            root = program.origin.root
            if not ordinary_write(path, root.trees if root else [program.cwd]):
                self.signal(process, "write", path, fact.ref)

    # gaps

    def _gap(self, fact: Event) -> None:
        process = self.who(fact) if fact.pid else None
        self.gaps.append((fact, process))
        if process is None:
            self.count(None, fact)
        elif self.gap_of(fact)["cause"] == "unencodable":
            self.place(process, process.program, ("gap", fact.ref, fact.n), fact).flags.add("hidden")
        else:
            self.count(process, fact)

    @staticmethod
    def gap_of(fact: Event) -> dict[str, Any]:
        """A gap's cause, count and bounds."""
        detail = details(fact)
        return {
            "ref": fact.ref,
            "cause": str(detail.get("cause") or fact.object or "unknown"),
            "count": detail.get("count") if isinstance(detail.get("count"), int) else None,
            "from_ns": whole(detail.get("from_ns")) or fact.time_ns,
            "to_ns": whole(detail.get("to_ns")) or fact.time_ns,
            "stream": str(detail.get("stream") or fact.source),
            "what": str(detail.get("what") or ""),
            "bytes": read_ways(detail.get("bytes")),
        }

    # placing

    def bucket(
        self, index: int | None, edge: Edge | None, process: Process | None, program: Program | None
    ) -> tuple[Turn | None, Bucket]:
        """The bucket of a process's program in a turn (None: unexplained), made where needed."""
        turn = None if index is None else self.turns[index]
        buckets = self.unexplained if turn is None else turn.buckets
        own = program if program is not None and program.process is process else None
        key = (process.key if process else None, own.ref if own else "")
        held = buckets.get(key)
        if held is None:
            held = buckets[key] = Bucket(process, own, edge)
        return turn, held

    def tally(self, turn: Turn | None, events: int) -> None:
        """Count events under a turn."""
        if turn is None:
            self.unexplained_events += events
        else:
            turn.events += events

    def count(self, process: Process | None, fact: Event, read: bool = False) -> None:
        """An event that makes no row of its own; what is of no process belongs to the session as a whole."""
        index, edge = self.lineage.place(process, fact.time_ns) if process is not None else (0, None)
        turn, bucket = self.bucket(index, edge, process, process.program if process else None)
        self.tally(turn, 1)
        if not read:
            bucket.others.add(fact)
            return
        bucket.reads.add(fact)
        bucket.read_first_ns = bucket.read_first_ns or fact.time_ns

    def count_in(self, turn: Turn, fact: Event) -> None:
        """An event that tells again what a turn shows."""
        _, bucket = self.bucket(turn.index, None, None, None)
        self.tally(turn, 1)
        bucket.others.add(fact)

    def place(self, process: Process, program: Program | None, key: object, fact: Event) -> Group:
        """Put an act under the turn of its process."""
        index, edge = self.lineage.place(process, fact.time_ns)
        turn, bucket = self.bucket(index, edge, process, program)
        return self.add(turn, bucket, key, fact, edge)

    def add(self, turn: Turn | None, bucket: Bucket, key: object, fact: Event, edge: Edge | None) -> Group:
        """Put an event into its group, made where there is none."""
        group = bucket.groups.get(key)
        if group is None:
            group = bucket.groups[key] = Group(fact.ref, fact.kind, fact.time_ns, fact.object, edge, fact.result)
            group.errno = fact.errno
        self.extend(turn, bucket, group, fact)
        return group

    def extend(self, turn: Turn | None, bucket: Bucket, group: Group, fact: Event) -> None:
        """Put one more event into a group."""
        group.members.add(fact)
        group.last_ns = fact.time_ns
        self.tally(turn, 1)
        self.mark_late(turn, bucket, group, fact.time_ns)

    def mark_late(self, turn: Turn | None, bucket: Bucket, group: Group, time_ns: int) -> None:
        """Flag an act as late where a process left behind does it after its turn is over."""
        over = turn is not None and turn.closed_ns is not None and time_ns > turn.closed_ns + TOLERANCE_NS
        if over and bucket.process is not None and not bucket.process.agent:
            group.flags.add("late")

    def signal(self, process: Process, kind: str, what: str, ref: str) -> None:
        """Note an act that matters where no decision asked for the program behind it."""
        program = process.program
        if program is not None and not program.named and len(program.signals) < MAX_SIGNALS:
            program.signals.append((kind, what, ref))


def _device(path: str) -> bool:
    return path.startswith(("/dev/", "/proc/")) and not path.startswith(("/dev/shm/", "/dev/mqueue/"))


def _cwd(process: Process) -> str:
    program = process.program
    return program.cwd if program else ""
