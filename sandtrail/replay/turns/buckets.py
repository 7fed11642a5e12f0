"""What came of a decision, grouped so that ten thousand events read as a few dozen lines and none is lost.

A bucket holds the acts of one program in one turn. Equal acts on the same object share a group with a count; opens of
files for reading are counted beside, since a program's start alone makes hundreds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from sandtrail.replay.events import Event
from sandtrail.replay.models.mcp import McpExchange
from sandtrail.replay.turns.network import Connection
from sandtrail.replay.turns.process import Process, Program

__all__ = ["MOST_N", "Bucket", "Edge", "Group", "Members"]

KEEP_REFS = 8
MOST_N = 0xFFF
"""Events of one frame that are told apart; those beyond count as the last of these."""


class Members:
    """The events of a group: 8 bytes each, so that a session of millions fits into memory.

    Kept as segment << 32 | place << 12 | event of the frame; a segment has at most 2^14 frames, a frame at most a few
    thousand events.
    """

    __slots__ = ("_packed",)

    def __init__(self) -> None:
        self._packed = array("Q")

    def add(self, event: Event) -> None:
        """Add one event."""
        segment, _, place = event.ref.partition(".")
        self._packed.append((int(segment) << 32 | int(place) << 12 | min(event.n, MOST_N)) & 0xFFFFFFFFFFFFFFFF)

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """(segment, place, event of the frame), in the order of arrival."""
        return ((packed >> 32, packed >> 12 & 0xFFFFF, packed & MOST_N) for packed in self._packed)

    def refs(self, most: int = KEEP_REFS) -> list[str]:
        """References of the first of them, each once."""
        first = self._packed[: most * 2]
        return list(dict.fromkeys(f"{packed >> 32}.{packed >> 12 & 0xFFFFF}" for packed in first))[:most]


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
    members: Members = field(default_factory=Members)
    flags: set[str] = field(default_factory=set)
    summary: str = ""
    program: Program | None = None
    """The exec itself, for rows that are one."""
    connection: Connection | None = None
    relay: str = ""
    """Whose words an exchange carries away, where that is known."""
    mcp: McpExchange | None = None
    """What an exchange of the Model Context Protocol said."""
    last_ns: int = 0


@dataclass(slots=True, eq=False)
class Bucket:
    """The acts of one program (or of a process that ran none of its own) in one turn."""

    process: Process | None
    program: Program | None
    edge: Edge | None
    groups: dict[object, Group] = field(default_factory=dict)
    reads: Members = field(default_factory=Members)
    """Files opened for reading, folded."""
    read_first_ns: int = 0
    notable: list[str] = field(default_factory=list)
    """The first of them that are no libraries or other parts of the system."""
    others: Members = field(default_factory=Members)
    """Events that make no row: the beginnings and ends of processes, sockets, changes of identity."""

    def members(self) -> Iterator[tuple[int, int, int]]:
        """Every event of the bucket, once."""
        for group in self.groups.values():
            yield from group.members
        yield from self.reads
        yield from self.others
