"""Processes that no decision asked for and whose acts matter.

A command runs many programs that nobody names: compilers under make, helpers of git, what a script is made of. They are
the command's own affair as long as they keep to its folder and end with it. One that opens connections, reads secrets,
plants something for later, writes elsewhere, or stays behind when its command has returned is a decision that nobody
took.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sandtrail.replay.turns.fold import Fold
from sandtrail.replay.turns.named import installed, is_helper, is_manager, says_all
from sandtrail.replay.turns.process import Process, Program

__all__ = ["GRACE_NS", "Undecided", "undecided"]

GRACE_NS = 500_000_000
"""Whatever ends within this time of its command has not outlived it."""

# What a helper may read, since it is its job: program's beginning -> kinds of secrets (words.CREDENTIALS)
_MAY_READ = {
    "ssh": ("a private SSH key", "SSH settings"),
    "git": ("stored passwords",),
    "node": ("a registry's token",),
    "python": ("stored passwords",),
}


@dataclass(slots=True)
class Undecided:
    """A process tree that no decision named, with what it did that matters."""

    top: Program
    signals: list[tuple[str, str, str]] = field(default_factory=list)
    """(kind, about what, ref), in the order of discovery."""
    outlived_ns: int = 0
    """How long it went on after its command had returned."""
    refs: list[str] = field(default_factory=list)


def undecided(fold: Fold) -> list[Undecided]:
    """The trees of a session, each once, by the topmost program that nobody named."""
    found: dict[int, Undecided] = {}
    for program in fold.lineage.programs:
        origin = program.origin
        if program.named or origin.turn is None:
            continue
        names = [p.name for p in program.above() if p.named and p.origin.turn == origin.turn]
        helper = is_helper(program.exe, program.argv, names)
        signals = [s for s in program.signals if _matters(s, program, helper, names)]
        outlived = 0 if helper or not origin.decided else _outlived(fold, program)
        if not (signals or outlived) or _said_before(fold, program):
            continue
        top = _top(program)
        tree = found.setdefault(id(_unit(top)), Undecided(top, refs=[top.ref]))
        if top.time_ns < tree.top.time_ns:
            tree.top = top
            tree.refs.insert(0, top.ref)
        tree.signals += [s for s in signals if s not in tree.signals]
        tree.outlived_ns = max(tree.outlived_ns, outlived)
        tree.refs += [r for r in [program.ref, *(s[2] for s in signals)] if r not in tree.refs]
    return list(found.values())


def _matters(signal: tuple[str, str, str], program: Program, helper: bool, names: list[str]) -> bool:
    kind, what, _ = signal
    if kind == "persistence":
        return not (is_manager(names) and installed(what))
    if kind == "credential":
        may = next((kinds for start, kinds in _MAY_READ.items() if program.name.startswith(start)), ())
        return not (helper and what.startswith(tuple(may))) if may else True
    if kind == "write":
        return not helper and not is_manager(names)
    return not helper


def _outlived(fold: Fold, program: Program) -> int:
    """How long the program's process went on after the named program behind it and the decided command had ended."""
    root = program.origin.root
    starter = next((p for p in program.above() if p.named), None)
    if root is None or starter is None or starter.process is program.process:
        return 0
    turn = fold.turns[program.origin.turn or 0]
    ends = [p.process.ended_ns for p in (root, starter)]
    if None in ends:
        # Ends that were not seen: the result was on its way to the model by then, if there was a next request.
        ends = [turn.closed_ns]
    known = [end for end in ends if end is not None]
    if not known or starter.process.ended_ns is None:
        return 0
    last = program.process.ended_ns or fold.last_ns
    over = last - max(known)
    return over if over > GRACE_NS else 0


def _said_before(fold: Fold, program: Program) -> bool:
    """Whether an earlier decision (or this one) holds the whole command: a script that the model itself wrote."""
    last = program.origin.turn or 0
    turns = fold.turns[max(0, last - 300) : last + 1]
    return any(
        turn.exchange is not None and says_all(program.argv, program.exe, turn.text, turn.tokens) for turn in turns
    )


def _top(program: Program) -> Program:
    top = program
    for above in program.above():
        if above.named or above.origin.turn != program.origin.turn:
            break
        top = above
    return top


def _unit(top: Program) -> Process:
    """The process that holds the tree together: forks that ran nothing of their own belong to what they started."""
    unit = top.process
    parent = unit.parent
    for _ in range(100):
        if parent is None or parent.programs or (parent.origin and parent.origin.root is None):
            break
        unit, parent = parent, parent.parent
    return unit


def unexplained_programs(fold: Fold) -> Iterator[Program]:
    """The topmost programs that no turn explains."""
    for program in fold.lineage.programs:
        if program.origin.turn is None and (program.parent is None or program.parent.origin.turn is not None):
            yield program
