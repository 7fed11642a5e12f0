"""Calls that take more than one message to tell; hidden.py says which and why."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any, Final

from sandtrail.replay.decode.gvisor.acts import AT_FDCWD, argv_detail, report_detail, resolve
from sandtrail.replay.decode.gvisor.hidden import FAILED, LOADED, PATIENCE_NS, UNKNOWN, Loose, Pending, outcome
from sandtrail.replay.decode.gvisor.processes import Key, Process, Processes
from sandtrail.replay.decode.gvisor.raw import Act, Raw, exit_of
from sandtrail.replay.decode.gvisor.rows import Head, Row, gap_row
from sandtrail.replay.decode.gvisor.syscalls import EXEC, NEW_FOLDER, TYPED
from sandtrail.replay.decode.text import text, to_json

__all__ = ["Calls"]

_MAX_THREADS: Final = 4096
_RAW, _EXEC, _EXECVE, _CHDIR = 6, 3, 11, 13
_OF_EXEC: Final = frozenset({_RAW, _EXEC, _EXECVE})
_NAMING: Final = frozenset(TYPED.values())
_RESULTS: Final = {LOADED: 0, FAILED: -1, UNKNOWN: None}


class Calls:
    """The calls of one stream that are not told out yet."""

    def __init__(self, stream: str, names: dict[int, str], sees: Collection[str]) -> None:
        """`sees`: the points that the session asked for; nothing but exec and chdir is paired without it."""
        self.stream = stream
        self._both = frozenset(name for name in TYPED if f"syscall/{name}/exit" in sees)
        self.waiting = False
        """Whether any call waits; looked at for every message, so kept and not computed."""
        self._names = names
        self._pending: dict[Key, Pending] = {}
        self._began: dict[Key, tuple[int, Head, Act]] = {}
        self._reported: set[Key] = set()
        """Threads whose exec the sentry has reported ahead of the call's own message."""
        self._report_first: bool | None = None
        """Whether this runsc reports an exec before the call's own messages; None until one has told."""
        self._loose = Loose()

    def _note(self) -> None:
        self.waiting = bool(self._pending or self._began or self._loose.waiting or self._reported)

    # -- what every message means for the calls of its thread ----------------------------------------------------------

    def settle(self, thread: Key, process: Process, kind: int, message: Any, name: str, rows: list[Row]) -> None:
        """A message of `thread` came: tell out what it decides."""
        if not self.waiting:
            return
        if kind not in _OF_EXEC:
            self._reported.discard(thread)
        if self._loose.waiting and kind in _NAMING:
            self._loose.pair(message.sysno, message.exit.errorno)
        if thread in self._began:
            expected, head, act = self._began[thread]
            # Between the beginning of a call and its end, the end's registers may come.
            if kind != _RAW or TYPED.get(self._names.get(message.sysno, "")) != expected:
                del self._began[thread]
                if kind != expected:
                    self._never_named(head, act, rows)
        pending = self._pending.get(thread)
        if pending is not None and not _belongs(pending, kind):
            self._decide(thread, pending, process, kind, message, name, rows)
        self._note()

    def _decide(
        self, thread: Key, pending: Pending, process: Process, kind: int, message: Any, name: str, rows: list[Row]
    ) -> None:
        if pending.call in NEW_FOLDER:
            del self._pending[thread]
            self._hidden_folder(pending, process, rows)
            return
        call = self._names.get(message.sysno, "") if kind == _RAW else ""
        found = outcome(pending, kind, message, name, call)
        if found is not None:
            del self._pending[thread]
            self._half_told(pending, process, found, rows)

    def _never_named(self, head: Head, act: Act, rows: list[Row]) -> None:
        """A call whose other message never came."""
        kind, thing, result, errno, detail = act
        rows.append((*head, thing, result, errno, _hidden(detail), 0))
        self._hide(head, "a call that names something in bytes that are not UTF-8", kind, 1, rows)

    def began(self, thread: Key, kind: int, head: Head, act: Act, rows: list[Row]) -> None:
        """A call of which a message of type `kind` should be this thread's next: its end, or its names."""
        before = self._began.pop(thread, None)
        if before is not None and before[0] == kind:
            # What was said when it began, with how it ended.
            _, _, result, errno, _ = act
            name, thing, _, _, detail = before[2]
            head, act = before[1], (name, thing, result, errno, detail)
        elif len(self._began) >= _MAX_THREADS:
            self._never_named(*self._began.pop(next(iter(self._began)))[1:], rows)
        self._began[thread] = (kind, head, act)
        self._note()

    # -- raw and typed calls -------------------------------------------------------------------------------------------

    def raw(self, head: Head, thread: Key, process: Process, message: Any, rows: list[Row]) -> None:
        """Registers of a call. One that only began says nothing that its end does not say."""
        call = Raw.of(message, self._names)
        if call.result is None:
            return
        if call.name in EXEC or (call.name in NEW_FOLDER and not call.errno):
            if not thread[1]:
                self._loose.add(call, head)
            elif thread not in self._reported:
                pending = Pending(head, call.name, errno=call.errno or 0, comm=process.comm)
                if call.name == "fchdir":
                    pending.path = process.opens.get(call.args[0], "")
                self._wait(thread, pending)
            self._note()
            return
        act = call.act()
        head[4] = act[0]
        if call.name not in self._both:
            rows.append((*head, *act[1:], 0))
        elif thread[1]:
            self.began(thread, TYPED[call.name], head, act, rows)
        else:
            self._loose.add(call, head)
            self._note()

    def _wait(self, thread: Key, pending: Pending) -> None:
        if len(self._pending) >= _MAX_THREADS:
            self._pending.pop(next(iter(self._pending)))
        self._pending[thread] = pending

    def chdir(self, thread: Key, process: Process, message: Any) -> None:
        """The typed message of a change of directory."""
        self._pending.pop(thread, None)
        self._loose.pair(message.sysno, message.exit.errorno)
        self._note()

    def execve(self, head: Head, thread: Key, process: Process, message: Any, rows: list[Row]) -> None:
        """The typed message of an exec: path and argv as the caller gave them."""
        _, errno = exit_of(message)
        call = self._names.get(message.sysno, "execve")
        before = self._pending.pop(thread, None)
        self._loose.pair(message.sysno, errno)
        if thread in self._reported:
            self._reported.discard(thread)
            self._report_first = True
            self._note()
            return
        # execve has no descriptor, and says 0 for it.
        folder = b"" if message.fd == AT_FDCWD or call == "execve" else message.fd_path
        path = resolve(message.pathname, folder, process.cwd)
        comm = before.comm if before is not None else process.comm
        pending = Pending(head, call, path, {**argv_detail(message.argv), "via": call}, True, errno or 0, comm)
        if errno:
            self._half_told(pending, process, FAILED, rows)
        elif self._report_first:
            self._half_told(pending, process, LOADED, rows)
        else:
            self._wait(thread, pending)
        self._note()

    def report(self, head: Head, thread: Key, process: Process, message: Any, rows: list[Row]) -> None:
        """The sentry's own report of an exec that succeeded."""
        if self._pending.pop(thread, None) is not None:
            self._report_first = False
        elif self._report_first is not False and len(self._reported) < _MAX_THREADS:
            self._reported.add(thread)
        self._note()
        process.began(text(message.binary_path) or text(message.argv[0] if message.argv else b""))
        head[4], head[13], head[14] = "process.exec", process.comm, process.exe
        rows.append((*head, process.exe, 0, 0, to_json(report_detail(message)), 0))

    # -- what is told by halves ----------------------------------------------------------------------------------------

    def _hide(self, head: Head, what: str, call: str, count: int | None, rows: list[Row]) -> None:
        detail = {"what": what, "syscall": call, "count": count, "to_ns": head[5] if count else None}
        rows.append(gap_row(head, "unencodable", self.stream, detail, n=1))

    def _half_told(self, pending: Pending, process: Process, found: str, rows: list[Row]) -> None:
        """Tell out an exec that the sentry itself never reported."""
        head = pending.head
        detail = {"via": "raw", "syscall": pending.call, **pending.detail, "outcome": found}
        if found != FAILED or not pending.typed:
            detail["hidden"] = True
        if found == LOADED:
            process.began(pending.path)
            head[13], head[14] = process.comm, process.exe
        head[4] = "process.exec"
        rows.append((*head, pending.path, _RESULTS[found], pending.errno or None, to_json(detail), 0))
        if not pending.typed:
            self._hide(head, "an exec whose path or arguments are not UTF-8", pending.call, 1, rows)
        elif found == LOADED and not process.hidden:
            self._hide(head, "the report of an exec whose environment is not UTF-8", pending.call, 1, rows)

    def _hidden_folder(self, pending: Pending, process: Process, rows: list[Row]) -> None:
        """A change of folder whose typed message never came."""
        head = pending.head
        head[4] = "dir.change"
        detail: dict[str, Any] = {"via": "raw", "syscall": pending.call}
        if pending.call == "fchdir":
            # The sentry takes whatever is in the second register of fchdir for a path and copies it; where that is not
            # UTF-8 the message is lost though the folder's name is fine. So this proves no hiding. The descriptor tells
            # which folder it was, where its open was seen; else the next message that carries the folder will.
            process.hidden, process.cwd = False, pending.path
            detail |= {} if pending.path else {"hidden": True}
            rows.append((*head, pending.path, 0, 0, to_json(detail), 0))
            return
        process.hidden, process.cwd = True, ""
        rows.append((*head, "", 0, 0, to_json({**detail, "hidden": True}), 0))
        what = "the process is in a folder whose name is not UTF-8: what it opens there is not reported"
        self._hide(head, what, pending.call, None, rows)

    def _overdue(self, received_before_ns: int, rows: list[Row]) -> None:
        for raw, head in self._loose.overdue(received_before_ns):
            if raw.name in EXEC or raw.name in NEW_FOLDER:
                head[4] = "process.exec" if raw.name in EXEC else "dir.change"
                detail = to_json({"via": "raw", "syscall": raw.name, "hidden": True})
            else:
                act = raw.act()
                head[4], detail = act[0], _hidden(act[4])
            rows.append((*head, "", raw.result, raw.errno, detail, 0))
            if raw.name == "fchdir":
                continue  # as in _hidden_folder
            what = "a call whose path or arguments are not UTF-8, by a process that this runsc does not name"
            self._hide(head, what, raw.name, 1, rows)

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int, processes: Processes, rows: list[Row]) -> bool:
        """Give out what has waited for longer than `PATIENCE_NS`. Returns whether anything was."""
        before = len(rows)
        old = now_ns - PATIENCE_NS
        late = [(thread, pending) for thread, pending in self._pending.items() if pending.received_ns < old]
        for thread, pending in late:
            del self._pending[thread]
            self._give_out(pending, processes, rows)
        self._overdue(old, rows)
        self._note()
        return len(rows) > before

    def finish(self, processes: Processes, rows: list[Row]) -> None:
        """Give out everything."""
        for pending in self._pending.values():
            self._give_out(pending, processes, rows)
        for _, head, act in self._began.values():
            rows.append((*head, *act[1:], 0))
        self._pending.clear()
        self._began.clear()
        self._reported.clear()
        self._overdue(1 << 63, rows)
        self._note()

    def _give_out(self, pending: Pending, processes: Processes, rows: list[Row]) -> None:
        process = processes.get((pending.head[8], pending.head[9], pending.head[10]))
        if pending.call in NEW_FOLDER:
            self._hidden_folder(pending, process, rows)
        else:
            self._half_told(pending, process, FAILED if pending.errno else UNKNOWN, rows)

    # -- stop and go on ------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """The state as plain data."""
        return {
            "pending": [[list(thread), asdict(pending)] for thread, pending in self._pending.items()],
            "began": [[list(thread), kind, head, list(act)] for thread, (kind, head, act) in self._began.items()],
            "reported": [list(thread) for thread in self._reported],
            "report_first": self._report_first,
            "loose": [[[*raw[:2], list(raw.args), *raw[3:]], head] for raw, head in self._loose.waiting],
        }

    def load(self, plain: dict[str, Any]) -> None:
        """Take up a state that `dump` gave."""
        self._pending = {(t[0], t[1], t[2]): Pending(**pending) for t, pending in plain["pending"]}
        self._began = {
            (t[0], t[1], t[2]): (kind, head, (act[0], act[1], act[2], act[3], act[4]))
            for t, kind, head, act in plain["began"]
        }
        self._reported = {(t[0], t[1], t[2]) for t in plain["reported"]}
        self._report_first = plain["report_first"]
        for (name, sysno, args, result, errno), head in plain["loose"]:
            self._loose.add(Raw(name, sysno, tuple(args), result, errno), head)
        self._note()


def _hidden(detail: str) -> str:
    """A detail (JSON) that says that more would be known if a name did not hide it."""
    return f'{detail[:-1]}{"," if len(detail) > 2 else ""}"hidden":true}}'


def _belongs(pending: Pending, kind: int) -> bool:
    """Whether a message of this type is a further one of the call that waits."""
    if pending.call in NEW_FOLDER:
        return kind == _CHDIR
    return kind == _EXEC or (kind == _EXECVE and not pending.typed)
