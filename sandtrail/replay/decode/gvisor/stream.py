"""A run of trace packets of one sandbox -> events.

`GvisorStream` remembers what messages leave out: a process's folder, name and image where a message carries only
numbers, its parent where an older runsc does not say, and calls of which more messages are to come (hidden.py).
Nothing in here raises on what a packet says.
"""

from __future__ import annotations

from collections.abc import Collection
from struct import Struct
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from sandtrail.replay.decode.gvisor.acts import ACTS, argv_detail
from sandtrail.replay.decode.gvisor.calls import Calls
from sandtrail.replay.decode.gvisor.processes import Key, Process, Processes
from sandtrail.replay.decode.gvisor.raw import exit_of
from sandtrail.replay.decode.gvisor.rows import Head, Row, gap_row, unknown_row
from sandtrail.replay.decode.gvisor.schema import CLASSES, KINDS
from sandtrail.replay.decode.gvisor.syscalls import syscall_names
from sandtrail.replay.decode.text import text, to_json

__all__ = ["HEADER", "GvisorStream"]

HEADER: Final = Struct("<HHI")
"""HeaderSize, MessageType, DroppedCount; in the order of the sandbox's machine, and every one that gVisor runs on is
little-endian."""
HEADER_SIZE: Final = HEADER.size
_START, _CLONE, _EXEC, _NOTIFY, _TASK_EXIT, _RAW, _OPEN, _EXECVE, _CHDIR, _MMAP = 1, 2, 3, 4, 5, 6, 7, 11, 13, 35
_SEVERAL: Final = frozenset({_START, _EXEC, _RAW, _EXECVE})
_CHANGING: Final = frozenset({_CLONE, _NOTIFY, _TASK_EXIT, _CHDIR})
_MAX_KINDS_UNKNOWN: Final = 1000


class GvisorStream:
    """The decoder of one sandbox's trace: `feed` for every DATA frame in order, `finish` once no more can come."""

    def __init__(
        self,
        session: str,
        sandbox: str,
        stream: str,
        machine: str = "x86_64",
        *,
        sees: Collection[str] = (),
        continues: bool = False,
    ) -> None:
        """`sees`: the points that the session asked for. `continues`: the beginning of the trace was not seen."""
        self.session = session
        self.sandbox = sandbox
        self.stream = stream
        self.machine = machine
        self.dropped: int | None = None if continues else 0
        """The sentry's counter as last seen; it wraps at 2^32."""
        self.unreported = 0
        """Drops seen in headers that no NOTE of the recorder has told yet."""
        self.unknown: dict[str, int] = {}
        """What was not understood, and how often."""
        self.messages = 0
        self.processes = Processes()
        self.sees = sorted(name for name in sees if not name.startswith("syscall/sysno/"))
        self.calls = Calls(stream, syscall_names(machine), self.sees)

    @property
    def waiting(self) -> bool:
        """Whether some call waits for another message."""
        return self.calls.waiting

    # -- one packet ------------------------------------------------------------------------------------------------

    def feed(self, ref: str, seq: int, received_ns: int, data: bytes, rows: list[Row]) -> None:
        """Append the events of one packet, and those that it completes.

        Long, because it is what a storm is made of: a hundred thousand packets a second leave no time for calls.
        """
        self.messages += 1
        size = len(data)
        if size < HEADER_SIZE:
            self._unknown(self._head(ref, seq, received_ns), data, -1, "shorter than a header", rows)
            return
        header, kind, dropped = HEADER.unpack_from(data)
        if dropped != self.dropped:
            self._count_drops(self._head(ref, seq, received_ns), dropped, rows)
        cls = CLASSES.get(kind)
        if cls is None or not HEADER_SIZE <= header <= size:
            why = f"message type {kind}" if cls is None else f"header size {header} of {size} bytes"
            self._unknown(self._head(ref, seq, received_ns), data, kind, why, rows)
            return
        try:
            message = cls.FromString(data[header:])
        except (DecodeError, RecursionError):
            why = f"{KINDS[kind][0]} is not well-formed"
            self._unknown(self._head(ref, seq, received_ns), data, kind, why, rows)
            return
        context = message.context
        if len(UnknownFieldSet(message)) or len(UnknownFieldSet(context)):
            self._unknown_fields(self._head(ref, seq, received_ns), data, kind, message, rows)

        processes = self.processes
        container = processes.containers.get(context.container_id)
        if container is None:
            container = processes.container(context.container_id)
        pid, tid, start = context.thread_group_id, context.thread_id, context.thread_group_start_time_ns
        key = (container, pid, start)
        process = processes.known.get(key)
        if process is None:
            process = processes.get(key)
        name, cwd, parent = context.process_name, context.cwd, context.parent_thread_group_id
        if name:
            process.comm = text(name, 64)
        if cwd:
            process.cwd = text(cwd)
        if parent:
            process.ppid, process.born = parent, True
        time_ns = context.time_ns
        if time_ns <= 0:
            time_ns = received_ns
        uid = gid = None
        if context.HasField("credentials"):
            credentials = context.credentials
            uid, gid = credentials.effective_uid, credentials.effective_gid

        if kind in _SEVERAL or self.calls.waiting:
            thread = (container, tid, context.thread_start_time_ns)
            self.calls.settle(thread, process, kind, message, process.comm if name else "", rows)
            if kind in _SEVERAL:
                head = [
                    ref, self.session, self.sandbox, "gvisor", "", time_ns, received_ns, seq, container, pid, start,
                    tid, process.ppid, process.comm, process.exe, process.cwd, uid, gid,
                ]  # fmt: skip
                self._several(head, kind, thread, process, message, rows)
                return
        event, thing, result, errno, detail = ACTS[kind](message, process.cwd)
        if kind == _OPEN:
            if result is not None and result >= 0 and thing[:1] == "/":
                process.opened(result, thing)
        elif kind in _CHANGING:
            event = self._change(kind, key, process, message, tid, event, thing)
        row = (
            ref, self.session, self.sandbox, "gvisor", event, time_ns, received_ns, seq, container, pid, start,
            tid, process.ppid, process.comm, process.exe, process.cwd, uid, gid, thing, result, errno, detail, 0,
        )  # fmt: skip
        if result is None and kind > _RAW and kind != _MMAP:
            # The call began; its end comes as a message of its own, unless a name silences that.
            thread = (container, tid, context.thread_start_time_ns)
            self.calls.began(thread, kind, list(row[:18]), (event, thing, result, errno, detail), rows)
            return
        rows.append(row)
        if kind == _CLONE and process.hidden:
            self._hidden_child(list(row[:18]), pid, message, rows)

    def _head(self, ref: str, seq: int, received_ns: int) -> Head:
        return [ref, self.session, self.sandbox, "gvisor", "", received_ns, received_ns, seq]

    def _change(self, kind: int, key: Key, process: Process, message: Any, tid: int, event: str, thing: str) -> str:
        """What a message changes in what is known of processes; returns the kind of its event."""
        if kind == _CLONE:
            child = (key[0], message.created_thread_group_id, message.created_thread_start_time_ns)
            self.processes.clone(key, process, child)
        elif kind == _NOTIFY:
            self.processes.end(key)
        elif kind == _TASK_EXIT:
            if tid != key[1] or process.born:
                return "process.thread_exit"
        elif message.HasField("exit"):  # of chdir
            thread = (key[0], tid, message.context.thread_start_time_ns)
            self.calls.chdir(thread, process, message)
            if not message.exit.errorno:
                process.hidden = False
                process.cwd = text(message.context.cwd) or thing
        return event

    def _several(self, head: Head, kind: int, thread: Key, process: Process, message: Any, rows: list[Row]) -> None:
        """One of the messages that tell a call together."""
        if kind == _RAW:
            self.calls.raw(head, thread, process, message, rows)
        elif kind == _EXECVE:
            if exit_of(message)[0] is not None:
                self.calls.execve(head, thread, process, message, rows)
        elif kind == _EXEC:
            self.calls.report(head, thread, process, message, rows)
        else:
            self._container_start(head, process, message, rows)

    def _container_start(self, head: Head, process: Process, message: Any, rows: list[Row]) -> None:
        """A container's first process; no exec is reported for it."""
        argv = argv_detail(message.args)
        process.cwd = process.cwd or text(message.cwd)
        process.exe = argv["argv"][0] if argv["argv"] else ""
        head[14], head[15] = process.exe, process.cwd
        ident = text(message.id, 256)
        facts = {"id": ident, "cwd": text(message.cwd), "terminal": message.terminal, "message": self.messages}
        head[4] = "lifecycle.container_start"
        rows.append((*head, ident, None, None, to_json({**facts, **argv}), 0))
        head[4] = "process.exec"
        rows.append((*head, process.exe, 0, 0, to_json({**argv, "via": "container"}), 1))

    def _hidden_child(self, head: Head, pid: int, message: Any, rows: list[Row]) -> None:
        child = message.created_thread_group_id
        if child and child != pid:
            what = "a process begins in a folder whose name is not UTF-8: what it opens there is not reported"
            rows.append(gap_row(head, "unencodable", self.stream, {"what": what, "child_pid": child}, n=1))

    # -- what is not understood, what is missing ---------------------------------------------------------------------

    def _unknown(self, head: Head, data: bytes, kind: int, reason: str, rows: list[Row], n: int = 0) -> None:
        if reason in self.unknown or len(self.unknown) < _MAX_KINDS_UNKNOWN:
            self.unknown[reason] = self.unknown.get(reason, 0) + 1
        rows.append(unknown_row(head, kind, reason, data, n))

    def _unknown_fields(self, head: Head, data: bytes, kind: int, message: Any, rows: list[Row]) -> None:
        """Told once a field, counted ever after: the rest of the message is decoded all the same."""
        where = [(KINDS[kind][0], message), (f"the context of {KINDS[kind][0]}", message.context)]
        n = 100
        for name, part in where:
            fields = UnknownFieldSet(part)
            for field in (fields[index] for index in range(min(len(fields), 1000))):
                reason = f"field {field.field_number} of {name}"
                if reason in self.unknown:
                    self.unknown[reason] += 1
                elif len(self.unknown) < _MAX_KINDS_UNKNOWN:
                    self._unknown(head, data, kind, reason, rows, n)
                    n += 1

    def _count_drops(self, head: Head, dropped: int, rows: list[Row]) -> None:
        if self.dropped is None:  # we did not see what came before
            self.dropped = dropped
            return
        delta = (dropped - self.dropped) % (1 << 32)
        self.dropped = dropped
        self.unreported += delta
        detail = {"count": delta, "after_seq": head[7] - 1, "before_seq": head[7], "from_ns": None, "to_ns": head[6]}
        rows.append(gap_row(head, "dropped by the sentry", self.stream, detail, n=200))

    def repeated(self, note: dict[str, Any]) -> bool:
        """Whether a gap that the recorder notes is one that the packets' own headers have told already."""
        count = note.get("count")
        if note.get("cause") != "dropped by the sentry" or not isinstance(count, int) or count > self.unreported:
            return False
        self.unreported -= count
        return True

    # -- the end, and in between -------------------------------------------------------------------------------------

    def tick(self, now_ns: int, rows: list[Row]) -> bool:
        """The log has come to `now_ns`: give out what has waited too long. Returns whether anything was."""
        return self.calls.tick(now_ns, self.processes, rows)

    def finish(self, rows: list[Row]) -> None:
        """Append the events of calls of which no further message can come."""
        self.calls.finish(self.processes, rows)

    def dump(self) -> dict[str, Any]:
        """The state as plain data."""
        names = ("session", "sandbox", "stream", "machine", "sees", "dropped", "unreported", "unknown", "messages")
        plain = {name: getattr(self, name) for name in names}
        known = [[list(key), process.plain()] for key, process in self.processes.known.items()]
        return {**plain, "processes": known, "calls": self.calls.dump()}

    @classmethod
    def load(cls, plain: dict[str, Any]) -> GvisorStream:
        """Make a decoder of a state that `dump` gave."""
        made = cls(plain["session"], plain["sandbox"], plain["stream"], plain["machine"], sees=plain["sees"])
        for name in ("dropped", "unreported", "unknown", "messages"):
            setattr(made, name, plain[name])
        for (container, pid, start), process in plain["processes"]:
            made.processes.known[container, pid, start] = Process(*process)
        made.calls.load(plain["calls"])
        return made
