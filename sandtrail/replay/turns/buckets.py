"""What came of a decision, grouped so that ten thousand events read as a few dozen lines and none is lost.

A bucket holds the acts of one program in one turn. Equal acts on the same object share a group with a count; opens of
files for reading are counted beside, since a program's start alone makes hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandtrail.replay.turns.network import Connection
from sandtrail.replay.turns.process import Process, Program

__all__ = ["Bucket", "Edge", "Group"]


@dataclass(frozen=True, slots=True)
class Edge:
    """Why an act stands under a decision. `confidence` is between 0 and 1."""

    reason: str
    confidence: float


@dataclass(slots=True, eq=False)
class Group:
    """Acts of one kind on one object by one program in one turn."""

    ref: str
    kind: str
    time_ns: int
    object: str
    edge: Edge | None
    result: int | None = None
    errno: int | None = None
    count: int = 0
    refs: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    summary: str = ""
    program: Program | None = None
    """The exec itself, for rows that are one."""
    connection: Connection | None = None
    last_ns: int = 0


@dataclass(slots=True, eq=False)
class Bucket:
    """The acts of one program (or of a process that ran none of its own) in one turn."""

    process: Process | None
    program: Program | None
    edge: Edge | None
    groups: dict[object, Group] = field(default_factory=dict)
    reads: int = 0
    """Files opened for reading, folded."""
    read_refs: list[str] = field(default_factory=list)
    read_first_ns: int = 0
    events: int = 0
