"""Which turn a process acts for: by what it runs, by who started it, by when it acts. `fold` has the order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sandtrail.replay.turns.buckets import Edge
from sandtrail.replay.turns.commands import Match, base, match, part_of
from sandtrail.replay.turns.modelturns import Turn
from sandtrail.replay.turns.named import names_program, reads_lines, runs_others, says_all, trees_of
from sandtrail.replay.turns.process import Key, Origin, Process, Processes, Program

__all__ = ["TOLERANCE_NS", "Lineage"]

TOLERANCE_NS = 50_000_000
"""Two clocks are compared: an act may seem to come this much before the decision that it follows."""
MAX_CANDIDATES = 60


class Lineage:
    """Keeps the processes of a session and the turn of each. Fed in about the order of time."""

    def __init__(self, turns: list[Turn]) -> None:
        self.turns = turns
        self.processes = Processes()
        self.programs: list[Program] = []
        self._lines: dict[str, list[tuple[Turn, int]]] = {}
        self._words: dict[tuple[str, ...], list[tuple[Turn, int]]] = {}
        self._edges: dict[Key, tuple[Program | None, Origin, Edge]] = {}

    def begin(self, process: Process, reason: str, confidence: float = 1.0) -> None:
        """A process that the operator or the runtime started: turn 0 explains it."""
        process.known = True
        process.origin = Origin(0, confidence, reason)

    def clone(self, parent: Process, key: Key) -> Process:
        """A process made another."""
        child = self.processes.by_key.get(key)
        if child is None:
            child = self.processes.add(Process(key))
        child.parent, child.started_by, child.known = parent, parent.program, True
        child.comm = parent.comm
        child.sockets = dict(parent.sockets)
        child.helper = parent.helper or (parent.agent and not parent.receives)
        if child.origin is None:
            child.origin = self._born(parent)
        return child

    def _born(self, parent: Process) -> Origin | None:
        if parent.agent and parent.receives:
            return Origin(parent.receives[-1], 0.5, "started by the process that received the decision, after it")
        if parent.helper and not (parent.origin and parent.origin.decided):
            agent = agent_above(parent)
            if agent is not None and agent.receives:
                return Origin(agent.receives[-1], 0.4, "started by a helper of the agent, after the decision")
        if parent.origin is not None and parent.origin.turn == 0 and not parent.origin.decided:
            return Origin(0, min(parent.origin.confidence, 0.9), "descendant of the operator's command")
        return parent.origin

    def exec(
        self, process: Process, ref: str, n: int, time_ns: int, argv: Sequence[str], exe: str, cwd: str
    ) -> Program:
        """A process began to run a program."""
        program = Program(process, ref, n, time_ns, tuple(argv), exe, cwd, Origin(None, 0.0, ""), process.program)
        if process.programs:
            process.programs[-1].end_ns = time_ns
        origin = process.origin
        if origin is None or not origin.decided:
            found = self._match(process, program, time_ns)
            if found is not None:
                turn, place, fit = found
                origin = Origin(turn.index, fit.confidence, fit.reason, True, program, place)
                program.shell_of_decision = True
                program.trees = trees_of(cwd, turn.commands[place].text)
                turn.roots.append(program)
        program.origin = process.origin = origin or Origin(None, 0.0, "")
        if program.origin.root is not program:
            program.named = self._named(program)
            program.shell_of_decision = program.named and self._says_what_runs(program)
        if reads_lines(argv, exe) and not program.origin.decided and agent_above(process) is not None:
            process.helper = True
        process.programs.append(program)
        self.programs.append(program)
        return program

    def decided(self, turn: Turn) -> None:
        """The model has answered: its commands may be run from now on."""
        for place, command in enumerate(turn.commands):
            self._lines.setdefault(command.text.strip(), []).append((turn, place))
            if command.words:
                self._words.setdefault(_plain(command.words), []).append((turn, place))

    def _match(self, process: Process, program: Program, time_ns: int) -> tuple[Turn, int, Match] | None:
        """The decided command that this exec is; the latest decision wins, and in it the first that has not run."""
        best: tuple[float, int, Turn, int, Match] | None = None
        agent = agent_above(process)
        for turn, place in self._candidates(program, agent is not None):
            if turn.decided_ns - TOLERANCE_NS > time_ns:
                continue
            command = turn.commands[place]
            fit = match(program.argv, command)
            if fit is None and process.parent is not None and process.parent.helper:
                fit = part_of(program.argv, command)
            if fit is None or (fit.confidence < 1.0 and agent is None):
                continue
            # A decision that this very agent received is likelier than another's with the same words.
            weight = fit.confidence + (0.2 if agent is not None and turn.receiver is agent else 0.0)
            weight -= 0.05 if any(root.origin.command == place for root in turn.roots) else 0.0
            if best is None or (weight, turn.index) > best[:2]:
                best = (weight, turn.index, turn, place, fit)
        return best[2:] if best else None

    def _candidates(self, program: Program, near: bool) -> Iterator[tuple[Turn, int]]:
        """Decided commands that an exec could be. Only what is near an agent is held against the words in full: a
        sandbox may start as many other processes as it likes."""
        for word in program.argv[1:]:
            yield from self._lines.get(word.strip(), ())[-MAX_CANDIDATES:]
        yield from self._words.get(_plain(program.argv), ())[-MAX_CANDIDATES:]
        if near:
            for turn in self.turns[: -MAX_CANDIDATES - 1 : -1]:
                if turn.decided_ns:
                    yield from ((turn, place) for place in range(len(turn.commands)))

    def _named(self, program: Program) -> bool:
        origin = program.origin
        if origin.turn is None:
            return False
        turn = self.turns[origin.turn]
        if turn.exchange is None:
            return True
        if not origin.decided:
            return names_program(program.argv, program.exe, turn.tokens)
        text = turn.commands[origin.command].text if 0 <= origin.command < len(turn.commands) else turn.text
        if says_all(program.argv, program.exe, text, turn.tokens):
            return True
        parent = program.parent
        return bool(parent and parent.shell_of_decision and names_program(program.argv, program.exe, turn.tokens))

    def _says_what_runs(self, program: Program) -> bool:
        return program.origin.decided and runs_others(program.argv, program.exe)

    def asks(self, process: Process) -> None:
        """The process sends a request to a model: it is an agent, and what it started before are its helpers."""
        if process.agent:
            return
        process.agent = True
        for other in self.processes.by_key.values():
            if other is not process and not (other.origin and other.origin.decided) and agent_above(other) is process:
                other.helper = True

    def place(self, process: Process, time_ns: int) -> tuple[int | None, Edge | None]:
        """The turn that an act of this process at this time belongs to, and why."""
        origin = process.origin
        if process.agent and process.receives:
            return self._window(process, "by the process that received it", 0.5, time_ns)
        if process.helper and not (origin and origin.decided):
            agent = agent_above(process)
            if agent is not None and agent.receives:
                return self._window(agent, "by a helper of the agent", 0.4, time_ns)
        if origin is None or origin.turn is None:
            return None, None
        return origin.turn, self.edge(process)

    def edge(self, process: Process) -> Edge | None:
        """Why a process stands where it stands."""
        origin, program = process.origin, process.program
        if origin is None or origin.turn is None:
            return None
        known = self._edges.get(process.key)
        if known is None or known[0] is not program or known[1] is not origin:
            known = self._edges[process.key] = (program, origin, _edge(process, program, origin))
        return known[2]

    def _window(self, agent: Process, by: str, confidence: float, time_ns: int) -> tuple[int, Edge]:
        turn = self.turns[agent.receives[-1]]
        if turn.closed_ns is not None and time_ns > turn.closed_ns + TOLERANCE_NS:
            return turn.index, Edge(f"after the decision and while the next was awaited, {by}", confidence * 0.6)
        return turn.index, Edge(f"in the window after the decision, {by}", confidence)


def _edge(process: Process, program: Program | None, origin: Origin) -> Edge:
    root = origin.root
    if root is None or program is root:
        return Edge(origin.reason, origin.confidence)
    which = f"`{clip(root.argv)}` (pid {root.process.pid})"
    if root.process is process:
        return Edge(f"run by {which} in place of itself", origin.confidence)
    return Edge(f"descendant of {which}", origin.confidence)


def _plain(words: Sequence[str]) -> tuple[str, ...]:
    return (base(words[0]), *words[1:]) if words else ()


def agent_above(process: Process) -> Process | None:
    """The nearest process above this one (or itself) that asks a model; None where there is none."""
    current: Process | None = process
    for _ in range(200):
        if current is None:
            return None
        if current.agent:
            return current
        current = current.parent
    return None


def clip(argv: Sequence[str], limit: int = 60) -> str:
    """An argv for the middle of a sentence."""
    text = " ".join(" ".join(argv[:20]).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
