"""The processes of a session: who started whom, what each ran, and when it ended.

A process is keyed by (container, pid, start time); pids come again, starts do not. A process that execs in place runs
several programs one after the other; each is a `Program`, and acts belong to the program that ran when they happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Key", "Origin", "Process", "Processes", "Program"]

Key = tuple[str, int, int]


@dataclass(slots=True)
class Origin:
    """Why a process exists: the turn that led to it, with reason and confidence."""

    turn: int | None
    """None where nothing explains it."""
    confidence: float
    reason: str
    decided: bool = False
    """It is, or descends from, a process that a decision named: the lineage then holds whatever the time."""
    root: Program | None = None
    """The program that the decision named."""
    command: int = -1
    """Which of the decision's commands."""


@dataclass(slots=True, eq=False)
class Program:
    """One exec: what a process ran from then until it ended or ran something else."""

    process: Process
    ref: str
    n: int
    time_ns: int
    argv: tuple[str, ...]
    exe: str
    cwd: str
    origin: Origin
    parent: Program | None
    """The program that started this one: its process's earlier one, or the parent process's at the time."""
    named: bool = True
    """The decision names it; True outside of decided subtrees, where nothing can be held against it."""
    shell_of_decision: bool = False
    """It runs what the decision's text says, so that the text names its children."""
    end_ns: int | None = None
    signals: list[tuple[str, str, str]] = field(default_factory=list)
    """What it did that matters where nobody asked for it: (kind, about what, ref); capped."""
    status: int | None = None
    trees: list[str] = field(default_factory=list)
    """Where a decided command writes without a word said."""

    @property
    def name(self) -> str:
        """The program's base name."""
        path = self.exe or (self.argv[0] if self.argv else "")
        return path.rsplit("/", 1)[-1]

    def above(self) -> Iterator[Program]:
        """The programs that led to this one, nearest first; bounded."""
        program = self.parent
        for _ in range(200):
            if program is None:
                return
            yield program
            program = program.parent


@dataclass(slots=True, eq=False)
class Process:
    """One process of the sandbox."""

    key: Key
    parent: Process | None = None
    started_by: Program | None = None
    """What the parent ran when it made this process."""
    ended_ns: int | None = None
    status: int | None = None
    comm: str = ""
    origin: Origin | None = None
    programs: list[Program] = field(default_factory=list)
    helper: bool = False
    """It belongs to the agent itself rather than to a decision: acts follow the window they fall into."""
    agent: bool = False
    """It asks a model."""
    receives: list[int] = field(default_factory=list)
    """The turns whose decisions this process received, in order."""
    sockets: dict[int, int] = field(default_factory=dict)
    """Kind of each socket by descriptor (SOCK_STREAM 1, SOCK_DGRAM 2)."""
    known: bool = False
    """A clone, a container's start or a process table named it."""

    @property
    def pid(self) -> int:
        """The thread group's id inside the sandbox."""
        return self.key[1]

    @property
    def program(self) -> Program | None:
        """What it runs now: its own latest exec, or what its parent ran when it forked."""
        return self.programs[-1] if self.programs else self.started_by

    @property
    def name(self) -> str:
        """The program's name, or the name that a context field gave."""
        program = self.program
        return (program.name if program else "") or self.comm


class Processes:
    """Finds a process by its key, or by its pid alone where a message had no more."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Process] = {}
        self._latest: dict[tuple[str, int], Process] = {}

    def find(self, container: str, pid: int, start_ns: int) -> Process | None:
        """The process, by pid alone where its start is not known."""
        if start_ns and (found := self.by_key.get((container, pid, start_ns))):
            return found
        latest = self._latest.get((container, pid))
        # A start that differs is another process, unless we only met it without one.
        return latest if latest is not None and (not start_ns or not latest.key[2]) else None

    def get(self, container: str, pid: int, start_ns: int) -> Process:
        """The process, made where it was not met before."""
        found = self.find(container, pid, start_ns)
        if found is None:
            found = self.add(Process((container, pid, start_ns)))
        return found

    def add(self, process: Process) -> Process:
        """Keep a new process."""
        self.by_key[process.key] = process
        self._latest[process.key[0], process.key[1]] = process
        return process


def shown(argv: Sequence[str], exe: str = "") -> str:
    """An argv as one line for people: words that hold blanks are quoted, long ones cut."""
    words = []
    for word in list(argv)[:64] or [exe]:
        word = word if len(word) <= 2000 else word[:2000] + "…"
        plain = word and not any(c.isspace() or c in "'\"\\$`|&;<>()*?" for c in word)
        words.append(word if plain else "'" + word.replace("'", "'\\''") + "'")
    return " ".join(words) + (" …" if len(argv) > 64 else "")
